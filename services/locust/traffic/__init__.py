"""The behaviour of the simulated clients: pure and seeded. Only the locustfile imports locust."""
