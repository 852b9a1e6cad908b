"""Every logger writes one JSON object per line, or text, to standard error."""

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
    """Restore the root logger and gunicorn's loggers."""
    loggers = [logging.getLogger(name) for name in ("", "gunicorn.error", "gunicorn.access")]
    before = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    yield
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


def log_line(capsys: pytest.CaptureFixture[str], name: str, text: str, **extra: Any) -> str:  # noqa: ANN401
    """Log one message and return its line on standard error."""
    logging.getLogger(name).warning(text, extra=extra)
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return str(line)


@pytest.mark.parametrize("name", NAMES)
def test_a_json_line_has_time_level_logger_and_process(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """It also has the extra fields; line feeds and quotes are escaped."""
    logging.config.dictConfig(logging_config("info", "json"))
    entry = json.loads(log_line(capsys, name, 'a "b"\nc σ', version="v"))

    assert entry["message"] == 'a "b"\nc σ'
    assert (entry["level"], entry["logger"], entry["version"]) == ("WARNING", name, "v")
    assert entry["process"] > 0
    assert entry["time"]


def test_a_json_line_has_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback is in the same object as its message."""
    logging.config.dictConfig(logging_config("info", "json"))
    try:
        1 / 0  # noqa: B018 for its exception
    except ZeroDivisionError:
        logging.getLogger("serving").exception("it failed")

    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError" in json.loads(line)["exc_info"]


def test_text_is_one_readable_line(capsys: pytest.CaptureFixture[str]) -> None:
    """It has the same facts as a JSON line."""
    logging.config.dictConfig(logging_config("info", "text"))
    line = log_line(capsys, "serving.app", "ready")

    assert "WARNING serving.app" in line
    assert line.endswith("ready")


@pytest.mark.parametrize("name", NAMES)
def test_the_level_applies_to_all_loggers(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Messages below the level do not appear."""
    logging.config.dictConfig(logging_config("error", "json"))
    logging.getLogger(name).warning("not this")

    assert capsys.readouterr().err == ""
