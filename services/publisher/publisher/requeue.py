"""Move the events in quarantine back into the spool, which sends them again.

    ./task requeue -- var/spool

Run it once the cause is fixed, at any time, also beside a running publisher. Lines that cannot be
decoded stay in quarantine.
"""

import argparse
import json
import os
import secrets
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from publisher.events import Kind, decoder
from publisher.header import read_header
from publisher.quarantine import CURRENT, OLDER, header_file, locked
from publisher.spool import SUFFIX

QUARANTINE = "quarantine"
_LEFT = "rejected.new"
UMASK = 0o077


class RequeueError(Exception):
    """The quarantine cannot be read or the spool cannot be written; the message is one line."""


@dataclass(frozen=True)
class Moved:
    """Events that went back into the spool, and lines that stayed in quarantine."""

    events: int
    left: int


def requeue(spool: Path) -> Moved:
    """Move every event in quarantine to a new segment of its version.

    The events are on disk before they leave the quarantine, so that a crash costs at most a second
    try. Raises RequeueError.
    """
    directory = spool / QUARANTINE
    if not directory.is_dir():
        return Moved(0, 0)
    try:
        with locked(directory):
            return _requeue(spool, directory)
    except OSError as error:
        raise RequeueError(f"{error.filename or directory}: {error.strerror}") from error


def _requeue(spool: Path, directory: Path) -> Moved:
    files = [path for name in (OLDER, CURRENT) if (path := directory / name).exists()]
    entries = [line for path in files for line in path.read_bytes().splitlines()]
    good, left = _sort(directory, entries)
    for version, lines in good.items():
        _write_segment(spool, header_file(directory, version).read_bytes(), lines)
    _write(directory / _LEFT, left)
    (directory / OLDER).unlink(missing_ok=True)
    (directory / _LEFT).replace(directory / CURRENT)
    return Moved(sum(map(len, good.values())), len(left))


def _sort(directory: Path, entries: list[bytes]) -> tuple[dict[str, list[bytes]], list[bytes]]:
    """Return the spooled lines of each version, and the entries that stay in quarantine."""
    good: defaultdict[str, list[bytes]] = defaultdict(list)
    left: list[bytes] = []
    for entry in entries:
        try:
            version, line = _read(directory, entry)
            good[version].append(line)
        except (ValueError, LookupError, TypeError, FileNotFoundError):
            left.append(entry)
    return good, left


def _read(directory: Path, entry: bytes) -> tuple[str, bytes]:
    """Return the version and the spooled line of an entry.

    Raises ValueError, LookupError, TypeError or FileNotFoundError if it is no event.
    """
    found = json.loads(entry)
    version, kind = str(found["version"]), found["kind"]
    line: bytes = found["line"].encode(errors="surrogateescape")
    header = read_header(header_file(directory, version).read_bytes().rstrip(b"\n"))
    decoder(header, _kind(kind))(line)
    return version, line


def _kind(text: str) -> Kind:
    return "label" if text == "label" else "prediction"


def _write_segment(spool: Path, header: bytes, lines: list[bytes]) -> None:
    path = spool / f"{time.time_ns():020d}-{secrets.token_hex(4)}{SUFFIX}"
    unfinished = path.with_suffix(".new")
    _write(unfinished, [header.rstrip(b"\n"), *lines])
    unfinished.rename(path)


def _write(path: Path, lines: list[bytes]) -> None:
    with path.open("wb") as file:
        file.write(b"".join(line + b"\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())


def main(argv: list[str] | None = None) -> None:
    """Move the events and print how many."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "spool",
        type=Path,
        nargs="?",
        default=os.environ.get("MODEL_SPOOL_DIR"),
        help="directory of the spool; default: MODEL_SPOOL_DIR",
    )
    arguments = parser.parse_args(argv)
    os.umask(UMASK)
    if arguments.spool is None:
        parser.error("name the spool's directory")
    try:
        moved = requeue(arguments.spool)
    except RequeueError as error:
        sys.exit(f"requeue: {error}")
    print(f"{moved.events} events are sent again; {moved.left} damaged lines stay in quarantine")  # noqa: T201


if __name__ == "__main__":
    main()
