"""Predict logged rows with another model: a bundle in this process, or a running service."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from bundle.arrays import Floats
from bundle.encode import Encoder
from bundle.load import load_bundle
from bundle.manifest import Manifest
from publisher.events import Value
from publisher.header import Category, Column
from serving.outcomes import codes_of, is_finite
from serving.values import missing_value
from tools.replay.log import ReplayError, Row

Predict = Callable[[Sequence[Column], list[Row]], list[Category | None]]
"""Maps features and rows (None is missing) to numbers or classes, None where there is none.

Raises RowsRejectedError and IncomparableError.
"""


class RowsRejectedError(Exception):
    """The model rejects at least one of the rows; the message says why."""


class IncomparableError(Exception):
    """The model cannot predict any row with these columns; the message says why."""


def with_bundle(directory: Path, excluded: Collection[str] = ()) -> Predict:
    """Return a function that predicts with a bundle; `excluded` features are not logged now.

    Raises BundleError.
    """
    bundle = load_bundle(directory)
    features = bundle.manifest.features
    wanted, encoder = [feature.name for feature in features], Encoder(features)
    missing_values = [missing_value(feature) for feature in features]

    def predict(columns: Sequence[Column], rows: list[Row]) -> list[Category | None]:
        names = [column.name for column in columns]
        if missing := set(wanted) - set(names):
            raise IncomparableError(_explain(missing, excluded))
        order = [names.index(name) for name in wanted]
        try:
            chosen = [
                tuple(
                    none if row[at] is None else row[at]
                    for at, none in zip(order, missing_values, strict=True)
                )
                for row in rows
            ]
            return _outcomes(bundle.manifest, bundle.model.predict(chosen, encoder.codes(chosen)))
        except ValueError as error:
            raise RowsRejectedError(str(error).splitlines()[0]) from error

    return predict


def with_service(client: httpx.Client) -> Predict:
    """Return a function that predicts with the service at the client's base URL."""

    def predict(columns: Sequence[Column], rows: list[Row]) -> list[Category | None]:
        instances = [
            {column.name: _sent(column, value) for column, value in zip(columns, row, strict=True)}
            for row in rows
        ]
        try:
            answer = client.post("/predict/batch", json={"instances": instances})
            if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
                raise RowsRejectedError(" ".join(answer.text.split())[:200])
            predictions = answer.raise_for_status().json()["predictions"]
        except httpx.HTTPError as error:
            raise ReplayError(f"{client.base_url}: {error}") from error
        return [_value(each) for each in predictions]

    return predict


def _explain(missing: Collection[str], excluded: Collection[str]) -> str:
    """Return why a version has no values of features that the other model needs."""
    message = f"the other model needs features that were not logged: {', '.join(sorted(missing))}"
    if left_out := {*missing} & {*excluded}:
        return f"{message}; MODEL_SPOOL_EXCLUDE leaves out {', '.join(sorted(left_out))}"
    return f"{message}; this version had none, or MODEL_SPOOL_EXCLUDE left them out then"


def _outcomes(manifest: Manifest, outputs: Floats) -> list[Category | None]:
    """Return the numbers or classes that a model's outputs mean."""
    if manifest.task == "regression":
        return [*map(float, outputs)]
    finite = is_finite(outputs)
    codes = iter(codes_of(outputs[finite]).tolist())
    return [manifest.classes[next(codes)] if there else None for there in finite]


def _sent(column: Column, value: Value) -> Value:
    """Return a value as the API takes it: a time as ISO 8601."""
    if column.type == "datetime" and isinstance(value, float):
        return datetime.fromtimestamp(value, UTC).isoformat()
    return value


def _value(prediction: dict[str, Any]) -> Category:
    """Return the value of a prediction, whose key is the target's name."""
    target = prediction.keys() - {"prediction_id", "model_version", "probabilities"}
    value: Category = prediction[target.pop()]
    return value
