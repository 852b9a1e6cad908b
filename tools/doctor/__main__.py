"""Check a running stack: python -m tools.doctor [local | cluster --context NAME]."""

import argparse
import sys
from collections.abc import Iterator, Sequence

from tools import ROOT, command
from tools.doctor import cluster, local
from tools.doctor.findings import Finding, Level
from tools.stack.settings import StackError, load_settings

RULES = ROOT / "prometheus" / "rules"
DASHBOARDS = ROOT / "grafana" / "provisioning" / "dashboards"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each finding; return 1 where there is a problem."""
    chosen = _arguments(arguments)
    try:
        levels = [_print(finding) for finding in _examine(chosen)]
    except StackError as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 1
    problems = levels.count(Level.PROBLEM)
    print(
        f"{problems} of {len(levels)} findings are problems"
        if problems
        else "everything is healthy"
    )
    return 1 if problems else 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="doctor", description=__doc__)
    parser.add_argument("where", nargs="?", default="local", choices=("local", "cluster"))
    parser.add_argument("--context", help="kubectl's context; its current one without this")
    parser.add_argument("--namespace", default="ml-monitoring", help="where the model is")
    return parser.parse_args(arguments)


def _examine(chosen: argparse.Namespace) -> Iterator[Finding]:
    if chosen.where == "cluster":
        return cluster.examine(cluster.Kubectl(chosen.context), chosen.namespace, RULES)
    return local.examine(load_settings(), RULES, DASHBOARDS)


def _print(finding: Finding) -> Level:
    print(finding, flush=True)
    return finding.level


if __name__ == "__main__":
    command.run(main)
