"""Check a running stack, here or in a cluster, and say what to do about each problem."""
