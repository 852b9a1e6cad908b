"""Checking that ports are free."""

import socket
from pathlib import Path

import pytest

from tools.stack import ports
from tools.stack.settings import StackError, load_settings


def test_a_port_is_in_use_while_somebody_listens() -> None:
    """It is free again as soon as nobody does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ports.in_use(port)

    assert not ports.in_use(port)


def test_all_ports_in_use_are_named_at_once(tmp_path: Path) -> None:
    """With service and variable; the ports of services that are not to start do not matter."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        first, second = one.getsockname()[1], other.getsockname()[1]
        given = {
            "LOCUST_PORT": ports.free_port(),
            "LOCUST_METRICS_PORT": first,
            "GRAFANA_PORT": second,
        }
        settings = load_settings({name: str(port) for name, port in given.items()}, tmp_path)
        with pytest.raises(StackError) as rejected:
            ports.check_ports(settings, ["locust", "grafana"])

        ports.check_ports(settings, [])

    assert str(rejected.value) == (
        f"ports in use: {first} (locust, LOCUST_METRICS_PORT), {second} (grafana, GRAFANA_PORT);"
        " stop what uses them, or set others in .env"
    )
