"""Predicts rows as a worker does, and sends their labels back, without a server."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bundle.arrays import Floats
from bundle.encode import Encoder
from bundle.frames import cells
from bundle.load import Bundle, load_bundle
from bundle.manifest import Value
from serving.events import Prediction
from serving.feedback import Feedback, Rejection, create_truths
from serving.outcomes import create_outcomes
from serving.prediction_id import Signer
from serving.segments import mark_bytes
from tests.support.bundles import read_metrics
from tests.support.model import Samples

NOW = 1_800_000_000.0


@dataclass(frozen=True)
class Worker:
    """One worker's predictions and feedback, with its metrics in a directory."""

    bundle: Bundle
    directory: Path
    signer: Signer
    feedback: Feedback

    @property
    def samples(self) -> Samples:
        """Return the samples of a scrape."""
        return read_metrics(self.directory)

    def predict(self, frame: pd.DataFrame) -> list[Prediction]:
        """Return the predictions of a frame's rows, as a client would send them."""
        manifest = self.bundle.manifest
        rows = cells(frame, manifest.features)
        codes = Encoder(manifest.features).codes(rows)
        outputs = self.bundle.model.predict(rows, codes)
        outcomes = create_outcomes(manifest, self.signer)
        found = outcomes.predictions(outputs, codes, rows, NOW)
        made = [each for each in found if each]
        assert len(made) == len(frame)
        return made

    def label(self, predictions: Sequence[Prediction], actual: Sequence[Value]) -> None:
        """Send the labels, which must be accepted."""
        for prediction, value in zip(predictions, actual, strict=True):
            item: dict[str, Any] = {"prediction_id": prediction.prediction_id, "actual": value}
            rejection = self.feedback.accept(item, NOW + 60)
            assert not isinstance(rejection, Rejection), rejection


def create_worker(bundle: Path, directory: Path) -> Worker:
    """Return a worker that serves a bundle."""
    loaded = load_bundle(bundle)
    manifest = loaded.manifest
    signer = Signer([b"k" * 32], manifest.name, manifest.version, mark_bytes(manifest))
    directory.mkdir(exist_ok=True)
    feedback = Feedback(create_truths(manifest, directory), signer, 1e9)
    return Worker(loaded, directory, signer, feedback)


def outputs_of(predictions: Sequence[Prediction]) -> Floats:
    """Return the probabilities (n, classes) of predictions, or without them the numbers (n,)."""
    return np.array([each.probabilities or each.prediction for each in predictions])
