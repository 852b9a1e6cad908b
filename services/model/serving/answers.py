"""Predictions and errors as the JSON that the client receives."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from bundle.manifest import Manifest
from serving.events import Prediction
from serving.inputs import InvalidInputError, body_error

# nginx's status for a client that closed its connection. Nobody receives it; metrics count it.
CLIENT_CLOSED_REQUEST = 499


class Answer(NamedTuple):
    """A response: its HTTP status and its body, JSON or empty."""

    status: int
    body: bytes


CLIENT_CLOSED = Answer(CLIENT_CLOSED_REQUEST, b"")
FAILURE = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b'{"detail":"Internal Server Error"}')


class Answers:
    """Encodes the predictions of one model version."""

    def __init__(self, manifest: Manifest) -> None:
        # Field names and order of the answer; the first field is named after the target.
        self._type: Any = msgspec.defstruct(
            "Answer",
            [
                ("value", float, msgspec.field(name=manifest.target.name)),
                ("prediction_id", str),
                ("model_version", str),
            ],
            gc=False,
        )
        self._version = manifest.version
        self._encode = msgspec.json.Encoder().encode

    def encode(self, prediction: Prediction | None) -> Answer:
        """Return the answer to one row. Raises InvalidInputError where there is no prediction."""
        if prediction is None:
            raise _no_prediction(1)
        return Answer(HTTPStatus.OK, self._encode(self._fields(prediction)))

    def encode_batch(self, predictions: Sequence[Prediction | None]) -> Answer:
        """Return the answer to a batch. Raises InvalidInputError where a prediction is missing."""
        found = [each for each in predictions if each]
        if len(found) < len(predictions):
            raise _no_prediction(len(predictions) - len(found))
        answers = [*map(self._fields, found)]
        return Answer(HTTPStatus.OK, self._encode({"predictions": answers}))

    def _fields(self, prediction: Prediction) -> Any:  # noqa: ANN401 a generated struct
        return self._type(prediction.prediction, prediction.prediction_id, self._version)


def encode_rejection(error: InvalidInputError) -> Answer:
    """Return the answer to a rejected input, in the form of FastAPI's validation errors."""
    return Answer(error.status_code, msgspec.json.encode({"detail": error.detail}))


def _no_prediction(rows: int) -> InvalidInputError:
    message = "The model has no finite prediction for these values"
    return body_error("no_prediction", message, rows=rows)
