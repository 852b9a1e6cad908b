"""Every logger writes one JSON object per line, or text, to standard error."""

import fcntl
import json
import logging
import logging.config
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from serving import logs
from serving.logs import Repetitions, Writer, logging_config
from tests.support.wait import eventually

NAMES = ("serving.app", "gunicorn.error", "gunicorn.access", "uvicorn.error")


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    """Restore the root logger and gunicorn's loggers."""
    loggers = [logging.getLogger(name) for name in ("", "gunicorn.error", "gunicorn.access")]
    before = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    yield
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


def log_line(capfd: pytest.CaptureFixture[str], name: str, text: str, **extra: Any) -> str:  # noqa: ANN401
    """Log one message and return its line on standard error."""
    logging.getLogger(name).warning(text, extra=extra)
    logs.flush()
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return str(line)


@pytest.mark.parametrize("name", NAMES)
def test_a_json_line_has_time_level_logger_and_process(
    capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """It also has the extra fields; line feeds and quotes are escaped."""
    logging.config.dictConfig(logging_config("info", "json"))
    entry = json.loads(log_line(capfd, name, 'a "b"\nc σ', version="v"))

    assert entry["message"] == 'a "b"\nc σ'
    assert (entry["level"], entry["logger"], entry["version"]) == ("WARNING", name, "v")
    assert entry["process"] > 0
    assert entry["time"]


def test_a_json_line_has_the_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """The traceback is in the same object as its message."""
    logging.config.dictConfig(logging_config("info", "json"))
    try:
        1 / 0  # noqa: B018 for its exception
    except ZeroDivisionError:
        logging.getLogger("serving").exception("it failed")

    logs.flush()
    (line,) = capfd.readouterr().err.splitlines()
    assert "ZeroDivisionError" in json.loads(line)["exc_info"]


def test_text_is_one_readable_line(capfd: pytest.CaptureFixture[str]) -> None:
    """It has the same facts as a JSON line."""
    logging.config.dictConfig(logging_config("info", "text"))
    line = log_line(capfd, "serving.app", "ready")

    assert "WARNING serving.app" in line
    assert line.endswith("ready")


@pytest.mark.parametrize("name", NAMES)
def test_the_level_applies_to_all_loggers(capfd: pytest.CaptureFixture[str], name: str) -> None:
    """Messages below the level do not appear."""
    logging.config.dictConfig(logging_config("error", "json"))
    logging.getLogger(name).warning("not this")
    logs.flush()

    assert capfd.readouterr().err == ""


def test_equal_warnings_are_written_a_limited_number_of_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A minute later the next one says how many were not, whatever their values were."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    repetitions = Repetitions()

    def record(number: int, level: int = logging.WARNING) -> logging.LogRecord:
        return logging.LogRecord("uvicorn.error", level, "", 0, "invalid: %d", (number,), None)

    passed = [number for number in range(500) if repetitions.filter(record(number))]
    assert passed == list(range(logs.MAX_EQUAL))
    assert all(repetitions.filter(record(number, logging.INFO)) for number in range(500))

    now += 61
    late = record(7)
    assert repetitions.filter(late)
    assert late.getMessage() == f"invalid: 7 ({500 - logs.MAX_EQUAL} more since the last one)"


def test_a_blocked_pipe_stops_nobody() -> None:
    """What has no room is dropped and counted; the rest is written once somebody reads."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    dropped: list[int] = []
    lines = Writer(writer)
    lines.on_drop = dropped.append
    line = b"x" * 999 + b"\n"
    written = sum(lines.put(line) for _ in range(5000))

    assert sum(dropped) == 5000 - written > 0
    assert lines.take_dropped() == sum(dropped)

    received = b""
    while len(received) < written * len(line):
        received += os.read(reader, 1 << 16)
    assert received == line * written
    lines.flush()
    os.close(reader)
    # A reader that is gone costs the line, not the process.
    lines.put(line)
    eventually(lambda: sum(dropped) == 5001 - written, "the line is dropped")
    os.close(writer)
