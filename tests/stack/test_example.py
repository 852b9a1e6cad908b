"""EXAMPLE chooses which example `./task train` trains; without it, the last choice stays."""

import json
from importlib import import_module
from pathlib import Path

from example import DEFAULT, examples
from tests.support.stack import Stack


def _trained(stack: Stack) -> str:
    manifest = json.loads((stack.settings.var / "bundle" / "bundle.json").read_text())
    return str(manifest["name"])


def test_another_example_is_trained_and_stays(tmp_path: Path) -> None:
    """A name that is no example's is an error, and changes nothing."""
    [other] = [each for each in examples() if each != DEFAULT]
    stack = Stack(tmp_path, EXAMPLE="")
    first = stack.task("train")
    trained = [_trained(stack)]
    for example in (other, "", "none", DEFAULT):
        done = stack.task("train", EXAMPLE=example)
        trained.append(_trained(stack))
        assert (done.returncode == 0) == (example != "none"), done.stdout + done.stderr
        if done.returncode:
            assert f"EXAMPLE=none is no example; there are: {', '.join(examples())}" in done.stderr

    assert first.returncode == 0, first.stderr
    default, name = (str(import_module(f"{each}.train").NAME) for each in (DEFAULT, other))
    assert trained == [default, *[name] * 3, default]
