"""What can go wrong, in one line."""


class ReportError(Exception):
    """Why a report cannot be made, for the person who asked for it."""
