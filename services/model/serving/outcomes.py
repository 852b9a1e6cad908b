"""What the outputs of a model mean, by task: predictions for clients, signals for metrics.

A regression outputs its predictions (n,). A classification outputs the probabilities (n, classes),
of which the largest is the prediction, or without probabilities the codes (n,) of the classes.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats
from bundle.manifest import Manifest
from serving.classified import Packer
from serving.events import Prediction
from serving.segments import create_segments
from serving.values import Row

_BINARY = 2


class Signer(Protocol):
    """The part of `prediction_id.Signer` that is used here."""

    @property
    def room(self) -> int: ...  # noqa: D102
    def sign(self, prediction: float, now: float, mark: bytes, /) -> str: ...  # noqa: D102
    def sign_class(self, content: bytes, now: float, mark: bytes, /) -> str: ...  # noqa: D102


class Outcomes(Protocol):
    """Makes predictions of the outputs for rows."""

    rejected: Floats
    """The outputs (1,) or (1, classes) for a row that the estimator rejects."""

    def predictions(
        self, outputs: Floats, codes: Floats, rows: Sequence[Row], now: float
    ) -> list[Prediction | None]:
        """Return the signed prediction of each row, or None where the outputs are not finite.

        `codes` are those of the rows (n, features).
        """


def create_outcomes(manifest: Manifest, signer: Signer) -> Outcomes:
    """Return what makes predictions for a model's task."""
    if manifest.task == "regression":
        return Regression(manifest, signer)
    return Classification(manifest, signer)


class Regression:
    """Numbers."""

    rejected = np.array([np.nan])

    def __init__(self, manifest: Manifest, signer: Signer) -> None:
        self._signer = signer
        self._segments = create_segments(manifest)

    def predictions(
        self, outputs: Floats, codes: Floats, rows: Sequence[Row], now: float
    ) -> list[Prediction | None]:
        """Return the signed prediction of each row, or None where it is not finite."""
        sign = self._signer.sign
        marks = self._segments.marks(codes) if self._segments else [b""] * len(rows)
        return [
            Prediction(sign(value, now, mark), now, row, value) if isfinite(value) else None
            for row, value, mark in zip(rows, outputs.tolist(), marks, strict=True)
        ]


class Classification:
    """Classes, with the probability of each."""

    def __init__(self, manifest: Manifest, signer: Signer) -> None:
        self._classes = manifest.classes
        self._signer = signer
        self._segments = create_segments(manifest)
        self._packer = Packer(manifest.classes, signer.room)
        width = (len(manifest.classes),) if manifest.probabilities else ()
        self.rejected = np.full((1, *width), np.nan)

    def predictions(
        self, outputs: Floats, codes: Floats, rows: Sequence[Row], now: float
    ) -> list[Prediction | None]:
        """Return the signed prediction of each row, or None where a probability is not finite."""
        finite = is_finite(outputs)
        known = outputs[finite]
        answers = codes_of(known)
        probabilities = known if known.ndim > 1 else None
        marks = self._segments.marks(codes[finite]) if self._segments else [b""] * len(known)
        packed = self._packer.pack(answers, probabilities)
        contents = zip(answers.tolist(), packed, marks, strict=True)
        listed = iter(known.tolist() if known.ndim > 1 else [None] * len(known))
        return [
            self._prediction(next(contents), row, now, next(listed)) if there else None
            for row, there in zip(rows, finite.tolist(), strict=True)
        ]

    def _prediction(
        self,
        answer: tuple[int, bytes, bytes],
        row: Row,
        now: float,
        probabilities: list[float] | None,
    ) -> Prediction:
        code, content, mark = answer
        id_ = self._signer.sign_class(content, now, mark)
        return Prediction(id_, now, row, self._classes[code], probabilities)


def is_finite(outputs: Floats) -> NDArray[np.bool_]:
    """Return which of n rows have a prediction."""
    finite: NDArray[np.bool_] = np.isfinite(outputs)
    return np.asarray(finite.all(axis=1)) if finite.ndim > 1 else finite


def codes_of(outputs: Floats) -> NDArray[np.intp]:
    """Return the codes (n,) of the predicted classes; the first of equal probabilities counts."""
    return outputs.argmax(axis=1) if outputs.ndim > 1 else outputs.astype(np.intp)


def scores_of(probabilities: Floats, codes: NDArray[np.intp]) -> Floats:
    """Return the scores (n,): the probability of the second of two classes, else the predicted."""
    if probabilities.shape[1] == _BINARY:
        return probabilities[:, 1]
    scores: Floats = probabilities[np.arange(len(codes)), codes]
    return scores
