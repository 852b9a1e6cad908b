"""The bundle: a directory that holds a model and all the service must know about it."""
