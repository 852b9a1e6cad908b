"""Whether a port is free."""

import socket
from pathlib import Path

import pytest

from tools.stack import ports
from tools.stack.settings import StackError, load_settings


def test_a_port_is_in_use_while_somebody_listens() -> None:
    """And free as soon as nobody does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ports.in_use(port)

    assert not ports.in_use(port)


def test_a_port_in_use_is_named_with_its_variable(tmp_path: Path) -> None:
    """Only the ports of the services that are to start matter."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = load_settings({"LOCUST_METRICS_PORT": str(port)}, tmp_path)
        with pytest.raises(StackError, match=f"^port {port}, for locust, is in use"):
            ports.check_ports(settings, ["locust"])

        ports.check_ports(settings, [])
