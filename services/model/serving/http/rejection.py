"""The answers of the protocol itself, to requests that no handler gets to see."""

from http import HTTPStatus
from typing import NamedTuple

import msgspec

from serving.overload import RETRY_AFTER

Headers = list[tuple[bytes, bytes]]


class Rejection(NamedTuple):
    """An answer after which the connection closes: its status, its reason as counted, in words."""

    status: int
    reason: str
    message: str

    def encode(self, default_headers: Headers) -> bytes:
        """Return the response's bytes."""
        body = msgspec.json.encode({"detail": self.message})
        headers = [
            *default_headers,
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
            *retry_after(self.status),
            (b"connection", b"close"),
        ]
        lines = b"".join(b"%b: %b\r\n" % each for each in headers)
        return status_line(self.status) + lines + b"\r\n" + body


# The statuses after which the rest of a body is not read.
CLOSING = frozenset((HTTPStatus.REQUEST_ENTITY_TOO_LARGE,))


def status_line(status: int) -> bytes:
    """Return the first line of a response."""
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()


def retry_after(status: int) -> Headers:
    """Return the header of a 503 that says when to try again; of other statuses, none."""
    if status != HTTPStatus.SERVICE_UNAVAILABLE:
        return []
    return [(b"retry-after", b"%d" % RETRY_AFTER)]


MALFORMED = Rejection(HTTPStatus.BAD_REQUEST, "malformed", "The request is not valid HTTP")
HEAD_TOO_LARGE = Rejection(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head_too_large",
    "The request's line and headers are too large",
)
HEAD_TIMEOUT = Rejection(
    HTTPStatus.REQUEST_TIMEOUT, "head_timeout", "The request's headers took too long"
)
BODY_TIMEOUT = Rejection(
    HTTPStatus.REQUEST_TIMEOUT, "body_timeout", "The request's body took too long"
)
CONNECTIONS = Rejection(
    HTTPStatus.SERVICE_UNAVAILABLE, "connections", "The service has too many connections"
)
MEMORY = Rejection(
    HTTPStatus.SERVICE_UNAVAILABLE, "memory", "The service holds too many unfinished requests"
)


class RejectedError(Exception):
    """Raised into the parser, which then stops."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.reason)
        self.rejection = rejection
