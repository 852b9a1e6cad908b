"""The error of everything that builds a bundle."""


class UnmonitorableError(ValueError):
    """The model, its data or its description cannot be monitored.

    The message is one line that names the place, the reason and, if it is not obvious, a remedy.
    """
