"""Other servers of the same model, each in its own environment in var/bench."""
