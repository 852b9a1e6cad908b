"""Settings of the stack: the shell, then .env, then the contract's defaults."""

from pathlib import Path

import pytest

from tools.stack.settings import PORTS, StackError, load_settings, read_env_file


def test_an_env_file_is_read_as_compose_reads_it(tmp_path: Path) -> None:
    """Comments, blanks, quotes, `export` and spaces are no part of a value; `=` may be."""
    file = tmp_path / ".env"
    file.write_text(
        "# a comment\n"
        "\n"
        "PLAIN=1\n"
        "SPACED =  a b  \n"
        "export EXPORTED=yes\n"
        "SINGLE='# not a comment'\n"
        'DOUBLE="x=y" # one\n'
        "COMMENTED=value # a comment\n"
        "HASH=a#b\n"
        "EMPTY=\n"
        "no assignment\n"
    )

    assert read_env_file(file) == {
        "PLAIN": "1",
        "SPACED": "a b",
        "EXPORTED": "yes",
        "SINGLE": "# not a comment",
        "DOUBLE": "x=y",
        "COMMENTED": "value",
        "HASH": "a#b",
        "EMPTY": "",
    }


def test_a_missing_env_file_sets_nothing(tmp_path: Path) -> None:
    """.env is optional."""
    assert read_env_file(tmp_path / ".env") == {}


def test_ports_default_to_the_contract(tmp_path: Path) -> None:
    """An empty variable is an unset one."""
    assert load_settings({"MODEL_PORT": ""}, tmp_path).ports == PORTS


def test_the_shell_wins_over_the_env_file(tmp_path: Path) -> None:
    """.env changes a default, the shell changes .env."""
    (tmp_path / ".env").write_text("MODEL_PORT=1\nLOCUST_PORT=2\n")

    settings = load_settings({"LOCUST_PORT": "3"}, tmp_path)

    assert settings.ports == {**PORTS, "MODEL_PORT": 1, "LOCUST_PORT": 3}
    assert settings.url("MODEL_PORT", "/x") == "http://127.0.0.1:1/x"


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "1.5", "٣"])
def test_what_is_no_port_is_rejected(tmp_path: Path, text: str) -> None:
    """The error names variable and value."""
    with pytest.raises(StackError, match=r"^GRAFANA_PORT=.* is not a port"):
        load_settings({"GRAFANA_PORT": text}, tmp_path)


def test_two_services_on_one_port_are_rejected(tmp_path: Path) -> None:
    """The error names both variables, of which one may be at its default."""
    with pytest.raises(StackError, match=r"^MODEL_PORT and GRAFANA_PORT are both 8000"):
        load_settings({"GRAFANA_PORT": "8000"}, tmp_path)


@pytest.mark.parametrize("depth", [1, 30])
def test_the_socket_path_fits(tmp_path: Path, depth: int) -> None:
    """However deep the checkout lies, its supervisor can bind its socket, and no other has it."""
    var = tmp_path.joinpath(*["deep"] * depth)

    socket = load_settings({"STACK_VAR": str(var)}, tmp_path).socket
    other = load_settings({"STACK_VAR": str(var / "other")}, tmp_path).socket

    assert len(str(socket)) <= 90
    assert socket != other
