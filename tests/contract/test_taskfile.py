"""The tasks: each has a description, and the documents name no other."""

import re
from typing import Any

import pytest
import yaml

from tools import ROOT, k8s

TIERS = ("unit", "contract", "rules", "service", "container", "stack", "cluster")
COMMANDS = ("up", "down", "status", "logs", "clean", "test", "train", "render", "lint", "format")

TASKS: dict[str, Any] = yaml.safe_load((ROOT / "Taskfile.yml").read_text())["tasks"]
PUBLIC = sorted(name for name, task in TASKS.items() if not task.get("internal"))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_task_says_what_it_does(name: str) -> None:
    """`./task` alone lists it with one sentence."""
    description = TASKS[name]["desc"]

    assert re.fullmatch(r"[A-Z].*[^.]", description), description


@pytest.mark.parametrize("name", PUBLIC)
def test_names_are_kebab_case_in_namespaces(name: str) -> None:
    """As the tool's own style guide has it."""
    assert re.fullmatch(r"[a-z0-9-]+(:[a-z0-9-]+)*(:\*)?", name)


@pytest.mark.parametrize("name", TASKS)
def test_no_task_is_a_shell_script(name: str) -> None:
    """A command is one line; what takes more is Python in tools/."""
    commands = TASKS[name].get("cmds", [])

    assert all("\n" not in command for command in commands if isinstance(command, str))


def test_the_contracts_commands_are_there() -> None:
    """Each command of the design, and a task for each tier of tests that there is."""
    tiers = {path.name for path in (ROOT / "tests").iterdir() if path.name in TIERS}

    assert {*COMMANDS} <= {*PUBLIC}
    assert all(tier in TASKS["test:*"]["desc"] for tier in tiers)


def test_the_steps_on_kubernetes_are_those_of_the_tool() -> None:
    """Any step of the tool can stand for `*` in `k8s:*`."""
    assert "{{index .MATCH 0}}" in TASKS["k8s:*"]["cmds"][0]
    assert {"minikube", "apply", "forward", "down", "clean"} <= {*k8s.STEPS}
