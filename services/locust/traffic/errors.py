"""What a person has set wrongly."""


class TrafficError(Exception):
    """The traffic cannot be what was asked for; the message is one line and names the cause."""
