"""Logs on standard error: one JSON object per line, or readable text.

Writing a line never stops the service. Lines wait in a bounded queue for a thread that writes them;
if whoever reads them is too slow, they are dropped and counted. Of equal warnings, only some are
written (see Repetitions).
"""

import contextlib
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS

_FIELDS = "%(asctime)s %(levelname)s %(name)s %(process)d %(message)s"
_GUNICORN = ("gunicorn.error", "gunicorn.access")
_STANDARD_ERROR = 2
_MAX_WAITING = 1_000
# How long an exit waits for lines to be written.
_FLUSH_SECONDS = 1.0
# Of equal warnings, this many are written in this time.
MAX_EQUAL = 10
_EQUAL_SECONDS = 60.0
_MAX_KINDS = 256


def logging_config(level: str, format_: str) -> dict[str, Any]:
    """Return a `logging.config.dictConfig` for the service, gunicorn and uvicorn."""
    formatter: dict[str, Any] = {"format": _FIELDS}
    if format_ == "json":
        formatter |= {
            "()": "pythonjsonlogger.json.JsonFormatter",
            # uvicorn adds a coloured copy of each message.
            "reserved_attrs": [*RESERVED_ATTRS, "color_message"],
            "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
        }
    logger = {"level": level.upper(), "handlers": ["stderr"]}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formatter},
        "filters": {"repetitions": {"()": "serving.logs.Repetitions"}},
        "handlers": {
            "stderr": {
                "class": "serving.logs.Handler",
                "formatter": "line",
                "filters": ["repetitions"],
            }
        },
        "root": logger,
        "loggers": {name: {**logger, "propagate": False} for name in _GUNICORN},
    }


class Writer:
    """Writes lines to a descriptor from a thread of its own; each process has its own queue."""

    def __init__(self, descriptor: int) -> None:
        self.on_drop: Callable[[int], None] = lambda _: None
        self._dropped = 0
        self._descriptor = descriptor
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def put(self, line: bytes) -> bool:
        """Write a line soon; return False if it is dropped, because too many are waiting."""
        if self._queue.qsize() >= _MAX_WAITING:
            self.drop()
            return False
        self._queue.put(line)
        self._ensure_thread()
        return True

    def drop(self) -> None:
        """Count a line as dropped."""
        self._dropped += 1
        self.on_drop(1)

    def take_dropped(self) -> int:
        """Return the number of lines that were dropped since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def flush(self, seconds: float = _FLUSH_SECONDS) -> None:
        """Return once all lines are written, or after some time."""
        if self._thread is not None:
            written = threading.Event()
            self._queue.put(written)
            written.wait(seconds)

    def _reset(self) -> None:
        """Reset: after a fork, the parent writes what was waiting."""
        self._queue: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._dropped = 0

    def _ensure_thread(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="log", daemon=True)
            # A process that is ending starts no thread: it loses the line.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, threading.Event):
                item.set()
            else:
                self._write(item)

    def _write(self, line: bytes) -> None:
        while line:
            try:
                line = line[os.write(self._descriptor, line) :]
            except BlockingIOError:
                # Somebody made the pipe non-blocking.
                select.select([], [self._descriptor], [])
            except OSError:
                self.drop()
                return


_writer = Writer(_STANDARD_ERROR)


class Handler(logging.Handler):
    """Writes to standard error without ever waiting for it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record soon, and before it how many were dropped."""
        try:
            if _writer.put(self._line(record)) and (dropped := _writer.take_dropped()):
                _writer.put(self._line(_notice(dropped)))
        except Exception:  # noqa: BLE001 as every handler
            self.handleError(record)

    def flush(self) -> None:
        """Wait, for a bounded time, until the lines are written."""
        _writer.flush()

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode(errors="backslashreplace")


class Repetitions(logging.Filter):
    """Lets MAX_EQUAL equal warnings pass in a minute; the next one says how many did not.

    Warnings are equal if their template is: it has no values that a client sent.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        if record.levelno < logging.WARNING:
            return True
        kind = self._kind(record.name, str(record.msg))
        if not kind.passes(time.monotonic()):
            _writer.on_drop(1)
            return False
        if kind.suppressed:
            record.suppressed = kind.suppressed
            record.msg = f"{record.getMessage()} ({kind.suppressed} more since the last one)"
            record.args = None
            kind.suppressed = 0
        return True

    def _kind(self, name: str, template: str) -> "_Kind":
        key = name, template
        if key not in self._kinds:
            if len(self._kinds) >= _MAX_KINDS:
                self._kinds.clear()
            self._kinds[key] = _Kind()
        return self._kinds[key]


class _Kind:
    """What is known of equal warnings."""

    def __init__(self) -> None:
        self._since = -_EQUAL_SECONDS
        self._written = 0
        self.suppressed = 0

    def passes(self, now: float) -> bool:
        """Return whether another one is written."""
        if now - self._since >= _EQUAL_SECONDS:
            self._since, self._written = now, 0
        self._written += 1
        if self._written > MAX_EQUAL:
            self.suppressed += 1
            return False
        return True


def on_drop(count: Callable[[int], None]) -> None:
    """Call `count` with the number of lines of this process that are not written."""
    _writer.on_drop = count


def flush() -> None:
    """Wait, for a bounded time, until the lines of this process are written."""
    _writer.flush()


def _notice(dropped: int) -> logging.LogRecord:
    return logging.LogRecord(
        __name__, logging.WARNING, __file__, 0, "%d log lines were dropped", (dropped,), None
    )
