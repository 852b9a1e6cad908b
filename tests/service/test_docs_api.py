"""Every command of docs/api.md runs against a model, and gets the answer that the page shows."""

import json
import os
import re
import subprocess
from typing import Any

import httpx
import pytest

from bundle.manifest import Manifest
from tests.support.machine import require
from tests.support.model import Model
from tools import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")


def blocks() -> list[tuple[str, str | None]]:
    """Return each block of commands, with the answer that the page shows below it."""
    pattern = r"```sh\n(.*?)```(?:\n\n```json\n(.*?)```)?"
    return [(sh, shown or None) for sh, shown in re.findall(pattern, PAGE, re.DOTALL)]


def shape(value: Any) -> Any:  # noqa: ANN401 any JSON
    """Return names, texts and structure of JSON; its numbers and ids may differ."""
    match value:
        case dict():
            return {key: shape(each) for key, each in value.items() if "version" not in key}
        case [first, *_]:
            return [shape(first)]
        case str() if "AWsJ…" in value or re.fullmatch(r"[\w-]{60,}", value):
            return "an id"
        case float():
            return 0.0
        case _:
            return value


@pytest.fixture(name="run", scope="module")
def _run(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401
    require("curl")
    directory = tmp_path_factory.mktemp("api")

    def run(commands: str, **variables: str) -> str:
        script = commands.replace("http://127.0.0.1:8000", model.url)
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=directory,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return run


def test_every_command_gets_the_answer_that_is_shown(run: Any) -> None:  # noqa: ANN401
    """In the order of the page; the id in the feedback is that of the first prediction."""
    prediction_id = ""
    shown_answers = 0
    for commands, shown in blocks():
        output = run(commands, PREDICTION_ID=prediction_id)
        assert output, commands
        if shown is not None:
            answer = json.loads(output)
            prediction_id = prediction_id or answer["prediction_id"]
            shown_answers += 1
            assert shape(answer) == shape(json.loads(shown)), commands
        else:
            assert "Not Found" not in output, commands
            assert "error" not in output.replace("Mean absolute error", ""), commands
    assert shown_answers == 8


def test_every_route_has_a_command(model: Model, example: Manifest) -> None:
    """A route that is added without one fails here; those with a version are the same."""
    paths = httpx.get(f"{model.url}/openapi.json").json()["paths"]
    called = set(re.findall(r"http://127.0.0.1:8000(/[\w/-]*)", "".join(sh for sh, _ in blocks())))

    assert called == {
        path.replace("{name}", example.name) for path in paths if "{version}" not in path
    }
