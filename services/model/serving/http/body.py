"""Reading the body of an ASGI request, within its limit."""

import zlib
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request

from serving.inputs import body_error, check_length, check_size
from serving.service import ClientGoneError

_ENCODINGS = ("gzip", "deflate")
# zlib detects by the header which of the two it is.
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Return the body. Raises ClientGoneError; InvalidInputError once it exceeds `max_bytes`.

    A length that is announced and exceeds them is rejected before the client may continue.
    """
    check_length(int(request.headers.get("content-length", 0)), max_bytes)
    body = bytearray()
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        check_size(body, max_bytes)
        more = message.get("more_body", False)
    return bytes(body)


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return a body without its `Content-Encoding`: gzip, deflate, or none.

    Raises InvalidInputError; also once the decompressed bytes exceed `max_bytes`.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _ENCODINGS:
        message = f"Content-Encoding is {encoding!r}: only gzip and deflate are supported"
        raise body_error("malformed", message, status_code=415)
    stream = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        content = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise body_error("malformed", f"The body is not {encoding}: {error}") from None
    check_size(content, max_bytes)
    if not stream.eof or stream.unused_data:
        raise body_error("malformed", f"The body is not one complete {encoding} stream")
    return content


def decode_json(body: bytes) -> Any:  # noqa: ANN401 any JSON
    """Return what a JSON body holds; NaN and Infinity are numbers. Raises InvalidInputError."""
    if not body.strip():
        raise body_error("empty", "The body is empty: send a JSON object")
    try:
        return from_json(body)
    except ValueError as error:
        raise body_error("malformed", f"The body is not JSON: {error}") from None
