"""The stack on one machine: start, stop and inspect it, as containers or as processes."""
