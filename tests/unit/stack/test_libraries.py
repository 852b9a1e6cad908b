"""The stack brings what the bundle's estimator needs, and nothing else."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bundle.libraries import OPTIONAL
from tools import environment
from tools.stack import compose, setup
from tools.stack.libraries import needed
from tools.stack.settings import load_settings


@pytest.fixture(name="bundle")
def _bundle(tmp_path: Path) -> Path:
    """Return a bundle that names two libraries."""
    directory = tmp_path / "bundle"
    directory.mkdir()
    content = {"libraries": {"numpy": "2", "lightgbm": "4", "xgboost": "3"}}
    (directory / "bundle.json").write_text(json.dumps(content))
    return directory


def test_a_bundle_says_what_it_needs(bundle: Path) -> None:
    """Of the libraries that have a lock of their own."""
    assert needed(bundle) == ["xgboost", "lightgbm"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"libraries": 1}'])
def test_an_unreadable_bundle_needs_nothing(bundle: Path, content: str) -> None:
    """The service, which reads it as well, says what is wrong."""
    (bundle / "bundle.json").write_text(content)

    assert needed(bundle) == []
    assert needed(bundle / "nowhere") == []


def test_there_is_a_lock_for_each_library_that_a_bundle_may_name() -> None:
    """The two lists are one."""
    assert set(OPTIONAL) == {*environment.LIBRARIES}


def test_the_native_stack_installs_them(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it starts anything."""
    locks: list[str] = []
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    monkeypatch.setattr(environment, "install", lambda *names: locks.extend(names))
    settings = load_settings({"STACK_VAR": str(tmp_path), "MODEL_BUNDLE": str(bundle)}, tmp_path)

    with setup.preparing(settings):
        pass

    assert locks == [
        environment.RUNTIME,
        *("services/model/requirements-xgboost.txt", "services/model/requirements-lightgbm.txt"),
    ]


def test_the_images_are_built_with_them(bundle: Path, tmp_path: Path) -> None:
    """Unless .env or the shell says which."""
    given = {
        "STACK_VAR": str(tmp_path / "var"),
        "MODEL_BUNDLE": str(bundle),
        "COMPOSE_PROJECT_NAME": "test",
    }

    def libraries(**more: str) -> str:
        settings = load_settings({**given, **more}, tmp_path)
        return compose.environment_for(settings)["MODEL_LIBRARIES"]

    assert libraries() == "xgboost lightgbm"
    assert libraries(MODEL_LIBRARIES="catboost") == "catboost"
