"""Publishes the events of the model's spool to a destination, in order and at least once."""
