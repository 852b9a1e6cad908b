"""Look a running stack over, here or in a cluster, and say what to do about what is wrong."""
