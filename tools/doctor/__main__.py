"""Look a running stack over: python -m tools.doctor [local | cluster --context NAME]."""

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
    """Print what is found, a line each; return 1 where something is wrong."""
    chosen = _arguments(arguments)
    try:
        levels = [_print(finding) for finding in _examine(chosen)]
    except StackError as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 1
    ills = levels.count(Level.ILL)
    print(f"{ills} of {len(levels)} findings need something done" if ills else "all is well")
    return 1 if ills else 0


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
