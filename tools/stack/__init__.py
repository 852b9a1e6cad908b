"""The stack on one machine: start it, stop it and tell how it is, as containers or as processes."""
