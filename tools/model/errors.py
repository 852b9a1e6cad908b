"""The error of the command."""


class ModelError(Exception):
    """No bundle can be built; the message is one line that names place, reason and remedy."""


def first_line(error: BaseException) -> str:
    """Return an exception as one line: its type, and the first line of its message."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
