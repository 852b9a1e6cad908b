"""Logs on standard error: one JSON object per line, or readable text."""

from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS

_FIELDS = "%(asctime)s %(levelname)s %(name)s %(process)d %(message)s"
_GUNICORN = ("gunicorn.error", "gunicorn.access")


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
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": logger,
        "loggers": {name: {**logger, "propagate": False} for name in _GUNICORN},
    }
