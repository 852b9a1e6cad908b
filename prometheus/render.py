# ruff: noqa: INP001 a script beside the files it reads
"""Render rules/*.yml into prometheusrule.yaml, the form the Prometheus operator reads.

Prometheus refuses the operator's keys and the operator refuses plain files, so the plain files are
the source. `--check` writes nothing and fails when the committed rendering is stale.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
TARGET = HERE / "prometheusrule.yaml"
HEADER = "# Generated from rules/*.yml by render.py; edit those.\n"


class _Dumper(yaml.SafeDumper):
    """YAML as a person would write it: expressions of several lines stay blocks."""


def _represent_str(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_str)


def rule_groups() -> list[Any]:
    """Return the groups of every rule file, in the order of the files' names."""
    files = sorted((HERE / "rules").glob("*.yml"))
    return [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]


def render() -> str:
    """Return the PrometheusRule as YAML."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "model"},
        "spec": {"groups": rule_groups()},
    }
    return HEADER + yaml.dump(rule, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)


def main(arguments: list[str]) -> int:
    """Write the rendering, or with --check only compare it."""
    rendered = render()
    if arguments == ["--check"]:
        fresh = TARGET.exists() and TARGET.read_text() == rendered
        if not fresh:
            sys.stderr.write(f"{TARGET.name} is stale: run `./task render`\n")
        return 0 if fresh else 1
    TARGET.write_text(rendered)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
