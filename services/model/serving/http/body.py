"""Reading the body of an ASGI request, within its limit."""

from starlette.types import Receive

from serving.inputs import check_size
from serving.service import ClientGoneError


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """Return the body. Raises ClientGoneError; InvalidInputError once it exceeds `max_bytes`."""
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        check_size(body, max_bytes)
        more = message.get("more_body", False)
    return body
