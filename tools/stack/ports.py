"""Check that the ports of the stack are free, before anything is started on them."""

import socket
from collections.abc import Iterable

from tools.stack.services import service
from tools.stack.settings import Settings, StackError


def check_ports(settings: Settings, names: Iterable[str]) -> None:
    """Raise StackError with every port that these services need and something else holds."""
    taken = [
        f"{settings.ports[variable]} ({name}, {variable})"
        for name in names
        for variable in service(name).ports
        if in_use(settings.ports[variable])
    ]
    if taken:
        raise StackError(
            f"ports in use: {', '.join(taken)}; stop what uses them, or set others in .env"
        )


def in_use(port: int) -> bool:
    """Return whether something holds a port of 127.0.0.1."""
    with socket.socket() as client:
        if client.connect_ex(("127.0.0.1", port)) == 0:
            return True
    with socket.socket() as server:
        # Connections of a stack that has just ended may linger in TIME_WAIT.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing holds."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port
