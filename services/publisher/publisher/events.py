"""Convert spooled lines to Fiddler's events: pure functions."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from publisher.spool import Header

EVENT_ID = "prediction_id"
EVENT_TIME = "predicted_at"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"

Event = dict[str, Any]


@dataclass(frozen=True)
class ModelName:
    """Identifies a model at Fiddler; each version has its own schema and events."""

    name: str
    version: str


def model_name(header: Header) -> ModelName:
    """Return the model version whose predictions a segment holds."""
    return ModelName(header.model, header.version)


def output_name(target: str) -> str:
    """Return the name of the prediction column; the label's column is named after the target."""
    return f"predicted_{target}"


def prediction_decoder(header: Header) -> Callable[[bytes], Event]:
    """Return a decoder from a line to an event; it raises ValueError if it is no prediction."""
    names = [column.name for column in header.features]
    whole = [i for i, column in enumerate(header.features) if column.type == "integer"]
    output = output_name(header.target.name)

    def decode(line: bytes) -> Event:
        spooled = _decode(line)
        try:
            values = spooled["features"]
            for i in whole:
                if values[i] is not None:
                    values[i] = int(values[i])
            event = dict(zip(names, values, strict=True))
            event[output] = spooled["prediction"]
            event[EVENT_ID] = spooled["prediction_id"]
            event[EVENT_TIME] = _timestamp(spooled["time"])
        except (LookupError, TypeError) as error:
            raise ValueError(f"not a prediction: {error!r}") from error
        return event

    return decode


def label_decoder(header: Header) -> Callable[[bytes], tuple[ModelName, Event]]:
    """Return a decoder from a line to the model and the update of one of its events.

    The decoder raises ValueError if the line is no label.
    """
    target, integer = header.target.name, header.target.type == "integer"

    def decode(line: bytes) -> tuple[ModelName, Event]:
        spooled = _decode(line)
        try:
            actual = int(spooled["actual"]) if integer else spooled["actual"]
            event = {EVENT_ID: spooled["label_of"], target: actual}
            return ModelName(header.model, spooled["version"]), event
        except (LookupError, TypeError) as error:
            raise ValueError(f"not a label: {error!r}") from error

    return decode


def _decode(line: bytes) -> Any:  # noqa: ANN401 any JSON
    # Invalid UTF-8 raises UnicodeDecodeError, which is a ValueError.
    return json.loads(line)


def _timestamp(seconds: float) -> str:
    """Return a time (s since 1970) in TIME_FORMAT."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:26] + "Z"
