"""Brings the events of the model's spool to Fiddler, each at least once, in order."""
