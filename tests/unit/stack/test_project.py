"""The name of a clone's Compose project."""

from pathlib import Path

import pytest

from tools.stack import project
from tools.stack.settings import load_settings


@pytest.fixture(name="root")
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(project, "ROOT", tmp_path)
    monkeypatch.setattr(project, "_started_here", lambda _: False)
    return tmp_path


def test_two_clones_have_two_names() -> None:
    """Equal directory names in different places do not make one project."""
    one, other = project.derived("/home/a/ML monitoring"), project.derived("/home/b/ML monitoring")

    assert one.startswith("ml-monitoring-")
    assert other.startswith("ml-monitoring-")
    assert one != other
    assert project.derived("/home/a/ML monitoring") == one


def test_a_given_name_wins(root: Path) -> None:
    """COMPOSE_PROJECT_NAME of the shell or of .env is taken as it is, and not written again."""
    settings = load_settings({"COMPOSE_PROJECT_NAME": "mine"}, root)

    project.remember(settings)

    assert project.name(settings) == "mine"
    assert not (root / ".env").exists()


def test_a_project_of_a_plain_docker_compose_up_goes_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its containers were started from this directory, under the directory's name."""
    monkeypatch.setattr(project, "_started_here", lambda name: name == root.name.lower())

    assert project.name(load_settings({}, root)) == root.name.lower()


@pytest.mark.parametrize("before", [None, "MODEL_PORT=1\n", "MODEL_PORT=1"])
def test_the_name_is_added_to_the_env_file(root: Path, before: str | None) -> None:
    """From then on a plain `docker compose` means the same project; other lines stay."""
    if before is not None:
        (root / ".env").write_text(before)
    settings = load_settings({}, root)
    derived = project.name(settings)

    project.remember(settings)

    after = load_settings({}, root)
    assert after.environment["COMPOSE_PROJECT_NAME"] == derived
    assert after.ports["MODEL_PORT"] == (8000 if before is None else 1)
