"""Reading a request's body within its limit."""

from starlette.types import Receive

from serving.inputs import InvalidInputError, body_error


class ClientGoneError(Exception):
    """The client closed its connection before its body was complete."""


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """Return the body. Raises ClientGoneError; InvalidInputError once `max_bytes` are exceeded."""
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise too_large(max_bytes)
        more = message.get("more_body", False)
    return body


def too_large(max_bytes: int) -> InvalidInputError:
    """Return the refusal of a body that exceeds its limit."""
    return body_error("too_large", f"The body is larger than {max_bytes} bytes", 413)
