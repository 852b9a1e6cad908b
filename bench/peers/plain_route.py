"""A plain FastAPI route that predicts one row with the bundle's scikit-learn estimator."""

import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel, create_model

from bundle.load import load_manifest
from bundle.manifest import Feature

_MODEL = Path(os.environ["BENCH_MODEL"])
_MANIFEST = load_manifest(_MODEL.parent)


def _field(feature: Feature) -> Any:  # noqa: ANN401 a type form
    kind = str if feature.type == "category" else float
    return (kind | None, None) if feature.nullable else (kind, ...)


_Instance = create_model(
    "Instance", __base__=BaseModel, **{each.name: _field(each) for each in _MANIFEST.features}
)


def create_app() -> FastAPI:
    """Return the application."""
    app = FastAPI()
    model = joblib.load(_MODEL)

    def given(values: dict[str, Any]) -> Any:  # noqa: ANN401
        if _MANIFEST.input.kind == "matrix":
            return np.array([[*values.values()]], dtype=np.float64)
        return pd.DataFrame([values]).astype(_MANIFEST.input.dtypes)

    @app.post("/predict")
    def predict(instance: _Instance) -> dict[str, Any]:  # type: ignore[valid-type]
        rows = given(instance.model_dump())  # type: ignore[attr-defined]
        if not _MANIFEST.probabilities:
            return {_MANIFEST.target.name: float(model.predict(rows)[0])}
        (probabilities,) = model.predict_proba(rows).tolist()
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        return {
            _MANIFEST.target.name: _MANIFEST.classes[best],
            "probabilities": dict(zip(map(str, _MANIFEST.classes), probabilities, strict=True)),
        }

    return app
