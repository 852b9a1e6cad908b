"""The attributes of uvicorn and gunicorn that the service uses although they are not their API.

If an upgrade moves one of them, a test fails and names it.
"""

import ast
import inspect
import textwrap
from typing import Any

import pytest
from gunicorn.arbiter import Arbiter
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import Server, ServerState
from uvicorn_worker import UvicornWorker

from serving.http.predict_protocol import Exchange

# Set or defined by the class or one of its bases.
ATTRIBUTES: dict[type[Any], tuple[str, ...]] = {
    HttpToolsProtocol: (
        *("url", "headers", "scope", "parser", "cycle", "pipeline", "flow", "transport", "loop"),
        *("server_state", "connections", "expect_100_continue", "_start_asgi_task"),
        *("data_received", "eof_received", "connection_made", "connection_lost", "shutdown"),
        *("on_message_begin", "on_headers_complete", "on_body", "on_message_complete"),
        *("on_response_complete", "timeout_keep_alive_task"),
    ),
    ServerState: ("connections", "default_headers"),
    Server: ("_serve", "startup", "shutdown", "started", "lifespan", "server_state"),
    Config: ("timeout_graceful_shutdown",),
    UvicornWorker: (
        *("config", "wsgi", "sockets", "ppid", "age", "cfg"),
        *("notify", "load_wsgi", "_serve", "CONFIG_KWARGS"),
    ),
    Arbiter: ("WORKER_BOOT_ERROR", "WORKERS", "SIG_QUEUE"),
}
# The attributes of its cycle that the protocol uses, which an exchange must have.
OF_A_CYCLE = {"body", "more_body", "disconnected", "response_complete", "keep_alive", "set"}


def attributes_of(owner: type[Any]) -> set[str]:
    """Return the attributes of a class, and those that its methods set on `self`."""
    found = set(dir(owner))
    for each in owner.__mro__[:-1]:
        tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        found |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        }
    return found


@pytest.mark.parametrize("owner", ATTRIBUTES, ids=lambda owner: owner.__name__)
def test_every_attribute_exists(owner: type[Any]) -> None:
    """The failure names the missing attributes."""
    missing = set(ATTRIBUTES[owner]) - attributes_of(owner)

    assert not missing, f"{owner.__module__}.{owner.__name__} no longer has {sorted(missing)}"


def test_an_exchange_has_every_attribute_that_the_protocol_uses() -> None:
    """Uvicorn's protocol reads, sets and calls no other attributes of its cycle."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(HttpToolsProtocol)))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and _is_cycle(node.value)
    }

    # `run_asgi` is used only for uvicorn's own cycles.
    assert used - {"run_asgi"} == OF_A_CYCLE - {"set"} | {"message_event"}
    assert hasattr(Exchange, "message_event")
    assert OF_A_CYCLE - {"set"} <= attributes_of(Exchange) & attributes_of(RequestResponseCycle)


def _is_cycle(node: ast.expr) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == "cycle") or (
        isinstance(node, ast.Name) and node.id == "cycle"
    )
