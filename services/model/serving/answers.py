"""Predictions and errors as the JSON that the client receives."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from bundle.manifest import Manifest
from serving.events import Prediction
from serving.inputs import InvalidInputError, body_error
from serving.values import to_text

# A number: looking up the member of the enum takes as long as encoding half of an answer.
OK = int(HTTPStatus.OK)
# nginx's status for a client that closed its connection. Nobody receives it; metrics count it.
CLIENT_CLOSED_REQUEST = 499


class Answer(NamedTuple):
    """A response: its HTTP status and its body, JSON or empty."""

    status: int
    body: bytes


class ErrorForm(NamedTuple):
    """How a protocol writes errors: the body for a rejected input, and the body of a 500."""

    reject: Callable[[InvalidInputError], bytes]
    failure: bytes


CLIENT_CLOSED = Answer(CLIENT_CLOSED_REQUEST, b"")
# The form of FastAPI's validation errors.
DETAIL = ErrorForm(
    lambda error: msgspec.json.encode({"detail": error.detail}),
    b'{"detail":"Internal Server Error"}',
)


class Answers:
    """Encodes the predictions of one model version."""

    def __init__(self, manifest: Manifest) -> None:
        # Field names and order of the answer; the first field is named after the target.
        fields: list[Any] = [
            ("value", Any, msgspec.field(name=manifest.target.name)),
            ("prediction_id", str),
            ("model_version", str),
        ]
        self._names = [to_text(each) for each in manifest.classes if manifest.probabilities]
        if self._names:
            fields.insert(1, ("probabilities", dict[str, float]))
        self._type: Any = msgspec.defstruct("Answer", fields, gc=False)
        self._fields = self._with_probabilities if self._names else self._alone
        self._version = manifest.version
        self._encode = msgspec.json.Encoder().encode

    def encode(self, prediction: Prediction | None) -> Answer:
        """Return the answer to one row. Raises InvalidInputError where there is no prediction."""
        if prediction is None:
            raise _no_prediction(1)
        return Answer(OK, self._encode(self._fields(prediction)))

    def encode_batch(self, predictions: Sequence[Prediction | None]) -> Answer:
        """Return the answer to a batch. Raises InvalidInputError where a prediction is missing."""
        answers = [*map(self._fields, require_all(predictions))]
        return Answer(OK, self._encode({"predictions": answers}))

    def probabilities(self, prediction: Prediction) -> dict[str, float]:
        """Return the probability of each class, empty if the model has none."""
        return dict(zip(self._names, prediction.probabilities or (), strict=True))

    def _alone(self, prediction: Prediction) -> Any:  # noqa: ANN401 a generated struct
        return self._type(prediction.prediction, prediction.prediction_id, self._version)

    def _with_probabilities(self, prediction: Prediction) -> Any:  # noqa: ANN401 a generated struct
        return self._type(
            prediction.prediction,
            self.probabilities(prediction),
            prediction.prediction_id,
            self._version,
        )


def require_all(predictions: Sequence[Prediction | None]) -> list[Prediction]:
    """Return the predictions. Raises InvalidInputError where one is missing."""
    found = [each for each in predictions if each]
    if len(found) < len(predictions):
        raise _no_prediction(len(predictions) - len(found))
    return found


def encode_error(error: Exception, form: ErrorForm) -> Answer:
    """Return the answer to a rejected input, or else to a failure, in a protocol's form."""
    if isinstance(error, InvalidInputError):
        return Answer(error.status_code, form.reject(error))
    return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, form.failure)


def describe(error: InvalidInputError) -> str:
    """Return the faults of an input in one line, a value's place as `feature[row]`."""
    return "; ".join(f"{_place(each['loc'])}{each['msg']}" for each in error.detail)


def _place(loc: Sequence[str | int]) -> str:
    match [*loc]:
        case ["body", "instances", int(row), name]:
            return f"{name}[{row}]: "
        case ["body"]:
            return ""
        case _:
            return ".".join(map(str, loc[1:])) + ": "


def _no_prediction(rows: int) -> InvalidInputError:
    message = "The model has no finite prediction for these values"
    return body_error("no_prediction", message, rows=rows)
