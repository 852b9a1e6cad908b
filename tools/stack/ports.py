"""Tell whether the ports of the stack are free, before anything is started on them."""

import socket
from collections.abc import Iterable

from tools.stack.services import service
from tools.stack.settings import Settings, StackError


def check_ports(settings: Settings, names: Iterable[str]) -> None:
    """Raise when a port that these services need is taken."""
    for name in names:
        for variable in service(name).ports:
            port = settings.ports[variable]
            if in_use(port):
                raise StackError(
                    f"port {port}, for {name}, is in use:"
                    f" stop what uses it, or set {variable} in .env"
                )


def in_use(port: int) -> bool:
    """Tell whether something holds a port of 127.0.0.1."""
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
