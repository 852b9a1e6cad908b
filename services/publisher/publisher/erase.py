"""Erase predictions and their labels, by prediction id, from the prediction log and the spool.

    python -m publisher.erase ID [ID …] [--file FILE]

Run it at any time, also beside the model and the publishers, in each replica that has a spool of
its own. It prints counts and the ids that were not found, never a value. Exit status 1 means that
something is left; the output says what. Running it again is safe.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyarrow.fs import FileSystem

from publisher.erase_files import ErasedRows, alone, erase_files, remove_unfinished
from publisher.erase_spool import closed_segments, erase_lines, erase_quarantined, is_read
from publisher.layout import LayoutError, open_root

QUARANTINE = "quarantine"
LOG = "log"
UMASK = 0o077
_POLL_SECONDS = 0.2


class EraseError(Exception):
    """Nothing can be erased; the message is one line."""


@dataclass
class Report:
    """What was erased, and what may be left."""

    ids: Collection[str]
    spooled: Counter[str] = field(default_factory=Counter)
    """Erased lines of spool and quarantine by id."""
    logged: ErasedRows = field(default_factory=ErasedRows)
    waiting: int = 0
    """Segments that a publisher may have read before they were cleared, and has yet to write."""
    spools: Sequence[Path] = ()

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left that this command can reach."""
        return not self.waiting and not self.logged.unreadable

    def lines(self) -> Iterator[str]:
        """Yield the report; it has no value of a row."""
        rows = self.logged.rows
        yield (
            f"erased {rows['predictions']} predictions and {rows['labels']} labels"
            f" in {self.logged.files} files of the log, {self.spooled.total()} lines of the spool"
        )
        missing = [each for each in self.ids if each not in {*self.logged.ids, *self.spooled}]
        yield from (f"not found: {each}" for each in missing)
        yield from (f"cannot be searched: {each}" for each in self.logged.unreadable)
        if self.waiting:
            yield (
                f"{self.waiting} segments were being written to the log and may hold these ids: run"
                " this again once PublisherBehind is resolved"
            )
        if not self.spools:
            yield (
                "there is no spool here: what is not in the log yet comes later. Erase in each"
                " replica, or again when no backlog is older than these predictions"
            )


def erase(
    filesystem: FileSystem, root: str, spool: Path | None, ids: Collection[str], wait: float
) -> Report:
    """Erase ids from the spool first, so that they cannot come back, then from the log.

    A publisher that runs may have read a segment just before. So the segments that are closed by
    then are waited for, up to `wait` s, and their files searched once more. Raises OSError.
    """
    directories = _directories(spool)
    report = Report(ids, spools=directories)
    for directory in directories:
        report.spooled.update(erase_lines(directory, ids))
        report.spooled.update(erase_quarantined(directory / QUARANTINE, ids))
    written = _being_written(directories)
    with alone(filesystem, root):
        remove_unfinished(filesystem, root)
        report.logged = erase_files(filesystem, root, ids)
        report.waiting = len(_await(directories, written, wait))
        if written:
            report.logged += erase_files(filesystem, root, ids, written)
    return report


def _directories(spool: Path | None) -> list[Path]:
    """Return the directories of all readers of a spool, given that of any."""
    if spool is None:
        return []
    first = spool.parent if spool.name == LOG else spool
    return [each for each in (first, first / LOG) if each.is_dir()]


def _being_written(directories: Sequence[Path]) -> set[str]:
    """Return the segments that the log's publisher may have in memory."""
    return {
        segment
        for each in directories
        if each.name == LOG and is_read(each)
        for segment in closed_segments(each)
    }


def _await(directories: Sequence[Path], written: set[str], wait: float) -> set[str]:
    """Return the segments that are still there after a time, or at once if nobody reads them."""
    end = time.monotonic() + wait
    while left := written & _being_written(directories):
        if time.monotonic() >= end:
            return left
        time.sleep(_POLL_SECONDS)
    return set()


def main(argv: Sequence[str] | None = None) -> int:
    """Erase and print the report; return 1 if something is left."""
    arguments = _parse(argv)
    os.umask(UMASK)
    try:
        ids = [*dict.fromkeys([*arguments.ids, *_read(arguments.file)])]
        if not ids:
            raise EraseError("name a prediction id, or a file of them with --file")  # noqa: TRY301
        filesystem, root = open_root(arguments.log or _from_environment())
        report = erase(filesystem, root, arguments.spool, ids, arguments.wait)
    except (EraseError, LayoutError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error}; nothing is lost, run it again")
    for line in report.lines():
        print(line)  # noqa: T201
    return 0 if report.is_complete else 1


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="erase", description=__doc__.partition("\n")[0])
    parser.add_argument("ids", nargs="*", metavar="ID", help="a prediction id")
    parser.add_argument("--file", type=Path, help="a file with an id on each line")
    parser.add_argument("--log", help="root of the log; default: PREDICTION_LOG")
    parser.add_argument(
        "--spool",
        type=Path,
        default=os.environ.get("MODEL_SPOOL_DIR", "").partition(",")[0] or None,
        help="directory of the spool; default: MODEL_SPOOL_DIR",
    )
    parser.add_argument("--wait", type=float, default=60.0, help="s to wait for a publisher (60)")
    return parser.parse_args(argv)


def _read(file: Path | None) -> list[str]:
    try:
        lines = file.read_text("utf-8").splitlines() if file else []
    except (OSError, UnicodeError) as error:
        raise EraseError(f"--file: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def _from_environment() -> str:
    if not (url := os.environ.get("PREDICTION_LOG")):
        raise EraseError("PREDICTION_LOG is not set, and no --log is given")
    return url


def _fail(message: str) -> int:
    print(f"erase: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
