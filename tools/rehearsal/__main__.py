"""Rehearse with a data set of scikit-learn: from files to a watched model.

    ./task rehearse -- data breast_cancer var/rehearsal
    ./task model -- --estimator var/rehearsal/model.joblib --data var/rehearsal/train.csv \
        --target target --held-out var/rehearsal/held_out.csv
    LOCUST_AUTOSTART=false ./task up
    ./task rehearse -- watch var/rehearsal --minutes 20

The last one sends the held-out rows with their labels. It fails if an alert fires, or if a recorded
figure is not scikit-learn's on the very rows.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from tools import command
from tools.rehearsal.data import DATA_SETS, HELD_OUT_FILE, write
from tools.rehearsal.watch import alerts, compare, send
from tools.stack import probe
from tools.stack.services import service
from tools.stack.settings import Settings, StackError, load_settings

_MINUTE = 60.0


def main(argv: list[str] | None = None) -> int:
    """Carry out one step; return 1 if it cannot be done, or if the comparison fails."""
    arguments = _arguments(argv)
    try:
        if arguments.step == "data":
            write(arguments.name, arguments.directory)
            print(f"wrote {arguments.directory}: train.csv, held_out.csv and model.joblib")
            return 0
        faults = 0
        for line, is_fault in _watch(load_settings(), arguments):
            print(line, flush=True)
            faults += is_fault
    except (StackError, OSError) as error:
        print(f"rehearse: {error}", file=sys.stderr)
        return 1
    return min(faults, 1)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./task rehearse --",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    steps = parser.add_subparsers(dest="step", required=True)
    data = steps.add_parser("data", help="write a data set and a fitted estimator")
    data.add_argument("name", choices=DATA_SETS)
    data.add_argument("directory", type=_path)
    watch = steps.add_parser("watch", help="send the held-out rows, and compare")
    watch.add_argument("directory", type=_path)
    watch.add_argument("--minutes", type=float, default=20.0)
    watch.add_argument("--rate", type=float, default=2.0, help="rows a second (default 2)")
    return parser.parse_args(argv)


def _path(text: str) -> Path:
    return Path(os.environ.get("USER_WORKING_DIR") or ".") / text


def _watch(settings: Settings, arguments: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    """Yield lines, and whether each is a fault."""
    if not probe.ready(settings, service("model")):
        raise StackError(f"no model answers at {settings.url('MODEL_PORT')}: ./task up starts it")
    held_out = pd.read_csv(arguments.directory / HELD_OUT_FILE)
    seconds = arguments.minutes * _MINUTE
    labelled = send(settings, held_out, seconds, arguments.rate)
    yield f"sent {len(labelled.actual)} rows with their labels", False
    for each in compare(settings, labelled):
        verdict = "equal" if each.is_equal else "DIFFERENT"
        line = f"{each.name}: recorded {each.recorded!r}, scikit-learn {each.expected!r}"
        yield f"{line}, allowed {each.allowed:.2g}: {verdict}", not each.is_equal
    fired = alerts(settings, seconds + 5 * _MINUTE)
    yield f"alerts: {'; '.join(fired) or 'none'}", bool(fired)


if __name__ == "__main__":
    command.run(main)
