"""What is counted, and how a scrape reads it."""
