"""Benchmark this service beside its ceiling, jeremyjordan/ml-monitoring and other model servers.

Groups: serving, latency, scaling, batch, overhead, models, monitoring, scrape, ids, spooling,
publishing, start, exactness, estimators, overload, slow_clients; or all of them.
"""

import argparse
import platform
import signal
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from bench.bench import Bench, prepared
from bench.groups import (
    batch,
    estimators,
    exactness,
    ids,
    latency,
    models,
    monitoring,
    overhead,
    overload,
    publishing,
    scaling,
    scrape,
    serving,
    slow_clients,
    spooling,
    start,
)
from bench.machine import BenchError, describe, load
from bench.peers.catalogue import PEERS
from bench.report import Goal, Section, markdown, replace_between_markers
from tools import command

_GROUPS: Mapping[str, Callable[[Bench], Section]] = {
    "serving": serving.measure,
    "latency": latency.measure,
    "scaling": scaling.measure,
    "batch": batch.measure,
    "overhead": overhead.measure,
    "models": models.measure,
    "monitoring": monitoring.measure,
    "scrape": scrape.measure,
    "ids": ids.measure,
    "spooling": spooling.measure,
    "publishing": publishing.measure,
    "start": start.measure,
    "exactness": exactness.measure,
    "estimators": estimators.measure,
    "overload": overload.measure,
    "slow_clients": slow_clients.measure,
}
_LIBRARIES = ("scikit-learn", "numpy", "fastapi", "uvicorn", "uvloop", "gunicorn")


def main() -> int:
    """Measure and print Markdown; return 1 if a goal is missed or a group cannot be measured."""
    arguments = _arguments()
    # By default SIGTERM would end this process without stopping the servers.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sections = _measure(arguments)
    text = markdown(sections, _head())
    print(text)
    if arguments.write:
        arguments.write.write_text(
            replace_between_markers(arguments.write.read_text("utf-8"), text), "utf-8"
        )
    return 0 if all(goal.met for section in sections for goal in section.goals) else 1


def _measure(arguments: argparse.Namespace) -> list[Section]:
    chosen = [*_GROUPS] if "all" in arguments.groups else arguments.groups
    sections = []
    with prepared(arguments.rounds, arguments.seconds) as bench:
        for name in chosen:
            print(f"bench: {name} (load average {load():.1f})", file=sys.stderr)
            sections.append(_section(name, bench))
    return sections


def _section(name: str, bench: Bench) -> Section:
    """Return a group's results; an error becomes a missed goal, so that other groups still run."""
    try:
        return _GROUPS[name](bench)
    except BenchError as error:
        return Section("", goals=[Goal(name, "measured", str(error), met=False)])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "groups", nargs="*", choices=[*_GROUPS, "all"], default="all", metavar="GROUP"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds per measurement (default 5)")
    parser.add_argument("--seconds", type=int, default=3, help="seconds per round (default 3)")
    parser.add_argument(
        "--write",
        type=_document,
        metavar="FILE",
        help="replace the text between the markers of a Markdown file",
    )
    return parser.parse_args()


def _document(name: str) -> Path:
    """Return a file that has the markers: an hour of measuring must not end without a place."""
    path = Path(name)
    try:
        replace_between_markers(path.read_text("utf-8"), "")
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{name}: {error}") from None
    return path


def _head() -> list[str]:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    peers = ", ".join(peer.requirements[0].replace("==", " ") for peer in PEERS)
    return [
        f"{describe()}; Python {platform.python_version()}, {libraries}; {peers}.",
    ]


if __name__ == "__main__":
    command.run(main)
