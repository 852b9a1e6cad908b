"""Query the prediction log, and say what is in it."""
