"""Replay a prediction log against another version of the model and print the differences."""
