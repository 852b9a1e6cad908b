"""What the commands about the log report."""


class LogError(Exception):
    """The log cannot be read; the message is one line."""
