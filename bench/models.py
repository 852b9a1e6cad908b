"""Models of the kinds that people have, as bundles, and the rows that are sent to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from threadpoolctl import threadpool_limits

from bench.bench import Bench, without_compiled
from bench.building import TARGET, classifier, recipe, table
from bench.servers import Row
from bundle.build import bundle_fitted
from bundle.manifest import Manifest

_TRAIN, _HELD_OUT = 2_000, 200
_SENT = 64


@dataclass(frozen=True)
class Model:
    """A bundle, its manifest and rows as a client sends them."""

    bundle: Path
    manifest: Manifest
    rows: Sequence[Row]


def pipeline(bench: Bench) -> Model:
    """Return a pipeline of one-hot encoded categories and boosted trees, compiled."""
    return _build(bench, "one-hot and boosted trees", table(_TRAIN + _HELD_OUT, 8, 4), classifier())


def not_compiled(bench: Bench, compiled: Model) -> Model:
    """Return a model without its compiled form: the estimator gets data frames."""
    bundle = bench.directory / f"{compiled.bundle.name}, not compiled"
    without_compiled(compiled.bundle, bundle)
    return Model(bundle, compiled.manifest, compiled.rows)


def forest(bench: Bench) -> Model:
    """Return a random forest of 100 trees on numbers."""
    estimator = RandomForestClassifier(100, min_samples_leaf=5, random_state=0)
    return _build(bench, "random forest", table(_TRAIN + _HELD_OUT, 12, 0), estimator)


def wide(bench: Bench) -> Model:
    """Return a pipeline on 200 features, 30 of them categories, with a fifth of values missing."""
    frame = table(_TRAIN + _HELD_OUT, 170, 30, missing=0.2)
    return _build(bench, "200 features", frame, classifier())


def _build(bench: Bench, name: str, frame: pd.DataFrame, estimator: Any) -> Model:  # noqa: ANN401
    train, held_out = frame[:_TRAIN], frame[_TRAIN:]
    inputs = train.drop(columns=TARGET)
    is_numeric = inputs.dtypes.map(pd.api.types.is_numeric_dtype).all()
    with threadpool_limits(1):
        fitted = estimator.fit(inputs.to_numpy() if is_numeric else inputs, train[TARGET])
    bundle = bench.directory / name
    manifest = bundle_fitted(fitted, train, held_out, recipe(frame, "models"), bundle)
    sent = held_out.drop(columns=TARGET).head(_SENT).astype(object)
    sent.columns = sent.columns.map(str)
    rows: Any = sent.where(sent.notna(), None).to_dict("records")
    return Model(bundle, manifest, rows)
