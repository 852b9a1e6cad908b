"""Predictions and refusals as the JSON that the client receives."""

import json
from collections.abc import Iterable

import msgspec

from bundle.manifest import Manifest
from serving.events import Prediction
from serving.inputs import InvalidInputError, body_error

# To a request that this service failed to answer.
FAILED = b'{"detail":"Internal Server Error"}'


class Answers:
    """Writes predictions; all but value and id is prepared once."""

    def __init__(self, manifest: Manifest) -> None:
        self._before = "{" + json.dumps(manifest.target.name) + ":"
        self._after = f'","model_version":{json.dumps(manifest.version)}}}'

    def one(self, prediction: Prediction | None) -> bytes:
        """Return the JSON of one prediction. Raises InvalidInputError where there is none."""
        return self._text(prediction).encode()

    def many(self, predictions: Iterable[Prediction | None]) -> bytes:
        """Return the JSON of several: all or, raising InvalidInputError, none."""
        return ('{"predictions":[' + ",".join(map(self._text, predictions)) + "]}").encode()

    def _text(self, prediction: Prediction | None) -> str:
        if prediction is None:
            raise body_error("no_prediction", "The model has no finite prediction for these values")
        value, id_ = prediction.prediction, prediction.prediction_id
        return f'{self._before}{value!r},"prediction_id":"{id_}{self._after}'


def refusal(error: InvalidInputError) -> bytes:
    """Return the JSON of a refusal, as FastAPI writes a validation error."""
    return msgspec.json.encode({"detail": error.detail})
