"""Publishes the events of the model's spool to Fiddler, in order and at least once."""
