"""Errors in the configuration of the traffic."""


class TrafficError(Exception):
    """The configuration is invalid; the message is one line and names the cause."""
