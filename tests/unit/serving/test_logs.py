"""Logs: one JSON object a line, of everybody who logs, on standard error."""

import json
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import pytest

from serving.logs import logging_config

NAMES = ("serving.app", "gunicorn.error", "gunicorn.access", "uvicorn.error")


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    """Give the root and gunicorn's loggers back as they were."""
    loggers = [logging.getLogger(name) for name in ("", "gunicorn.error", "gunicorn.access")]
    before = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    yield
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


def log_line(capsys: pytest.CaptureFixture[str], name: str, text: str, **extra: Any) -> str:  # noqa: ANN401
    """Log one message and return what came out: one line on standard error."""
    logging.getLogger(name).warning(text, extra=extra)
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return str(line)


@pytest.mark.parametrize("name", NAMES)
def test_json_has_time_level_logger_process(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """And what was given beside the message; a line feed or a quote breaks no line."""
    logging.config.dictConfig(logging_config("info", "json"))
    entry = json.loads(log_line(capsys, name, 'a "b"\nc σ', version="v"))

    assert entry["message"] == 'a "b"\nc σ'
    assert (entry["level"], entry["logger"], entry["version"]) == ("WARNING", name, "v")
    assert entry["process"] > 0
    assert entry["time"]


def test_json_has_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """In the same object, so that it cannot be torn from its message."""
    logging.config.dictConfig(logging_config("info", "json"))
    try:
        1 / 0  # noqa: B018 for its exception
    except ZeroDivisionError:
        logging.getLogger("serving").exception("it failed")

    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError" in json.loads(line)["exc_info"]


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """The same facts in one line."""
    logging.config.dictConfig(logging_config("info", "text"))
    line = log_line(capsys, "serving.app", "ready")

    assert "WARNING serving.app" in line
    assert line.endswith("ready")


@pytest.mark.parametrize("name", NAMES)
def test_the_level_holds_for_all(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """What is below it does not appear."""
    logging.config.dictConfig(logging_config("error", "json"))
    logging.getLogger(name).warning("not this")

    assert capsys.readouterr().err == ""
