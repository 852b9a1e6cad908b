"""Predictions as JSON; all but value and id is prepared once."""

import json
import math
import time

from bundle.manifest import Manifest
from serving.inputs import body_error
from serving.prediction_id import Signer


class Answers:
    """Writes what the client receives, each prediction with its signed id."""

    def __init__(self, manifest: Manifest, signer: Signer) -> None:
        self._sign = signer.sign
        self._before = "{" + json.dumps(manifest.target.name) + ":"
        self._after = f'","model_version":{json.dumps(manifest.version)}}}'

    def one(self, value: float) -> str:
        """Return the JSON of one prediction. Raises InvalidInputError where there is none."""
        if not math.isfinite(value):
            raise body_error("no_prediction", "The model has no finite prediction for these values")
        signed = self._sign(value, time.time())
        return f'{self._before}{value!r},"prediction_id":"{signed}{self._after}'

    def many(self, values: list[float]) -> str:
        """Return the JSON of several predictions: all or, raising InvalidInputError, none."""
        return '{"predictions":[' + ",".join(map(self.one, values)) + "]}"
