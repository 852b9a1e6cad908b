"""Query the prediction log in SQL, or say what is in it.

    ./task log
    ./task log -- sql "select version, count(*), avg(abs(error)) from labelled group by version"

The views are `predictions`, `labels`, and `labelled`: each labelled prediction with its latest
label, and `error` (prediction minus truth) or `correct`. docs/prediction_log.md has examples.
"""

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tools.command import run
from tools.log.errors import LogError
from tools.log.location import Location, find_log
from tools.log.output import FORMATS
from tools.log.query import ask
from tools.log.summary import summarize
from tools.log.tables import listed
from tools.stack.settings import load_settings


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(
        prog="./task log --",
        description=__doc__.partition("\n\n")[0],
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=["sql"], help="without it: what is there")
    parser.add_argument("query", nargs="?", help="in DuckDB's SQL")
    parser.add_argument("--format", choices=[*FORMATS], default="table")
    parser.add_argument("--log", help="directory, s3:// or gs:// URL; default: PREDICTION_LOG")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.command and not arguments.query:
        parser.error("sql needs a query in quotes")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Print an answer, or what is in the log; return 1 if that is impossible."""
    arguments = parse(argv)
    try:
        log = find_log(arguments.log)
        if arguments.command:
            _ask(log, arguments.query, arguments.format)
        else:
            _summarize(log)
    except LogError as error:
        print(f"log: {error}", file=sys.stderr)
        return 1
    return 0


def _ask(log: Location, query: str, format_: str) -> None:
    with tempfile.TemporaryDirectory(prefix="prediction-log-") as scratch:
        FORMATS[format_](ask(log, query, Path(scratch)), sys.stdout)


def _summarize(log: Location) -> None:
    files = listed(log)
    spool = load_settings().var / "spool" / "log"
    for line in summarize(log, files, datetime.now(UTC), spool):
        print(line)


if __name__ == "__main__":
    run(main)
