"""What the simulated clients do: pure and seeded; only the locustfile knows locust."""
