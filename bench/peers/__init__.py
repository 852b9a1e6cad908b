"""Other ways of serving the same model, each in an environment of its own under var/bench."""
