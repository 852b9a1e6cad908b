"""Each kind of estimator: whether it is compiled, how exact that is, and what a row costs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor

from bench.bench import Bench
from bench.clock import microseconds
from bench.report import Goal, Section, number_text
from bundle.build import bundle_fitted
from bundle.checks import Recipe
from bundle.encode import Encoder
from bundle.estimator import with_one_thread, wrap
from bundle.frames import cells
from bundle.infer import Column, infer
from bundle.load import load_bundle
from bundle.manifest import PROGRAM_FILE, TREES_FILE, Quantity

ROWS = 1_000
NUMBERS = [f"n{place}" for place in range(8)]
CATEGORIES = ["c0", "c1"]
TARGET = "y"


@dataclass(frozen=True)
class Case:
    """An unfitted estimator, its columns, and whether it classifies."""

    name: str
    make: Callable[[], Any]
    columns: list[str]
    classifies: bool = False
    as_categories: bool = False


def measure(bench: Bench) -> Section:
    """Measure processor time on one thread: for one row alone, and for each of 1,000 rows."""
    header = [
        *("estimator", "compiled", "largest difference", "one row, µs: served", "not compiled"),
        *("the library's call", "rows/s of 1,000: served", "the library's call"),
    ]
    rows, goals, notes = [header], [], []
    for case in cases():
        try:
            row, difference = _measure(case, bench)
        except ModuleNotFoundError as error:
            notes.append(f"{case.name}: {error.name} is not installed (./task deps:model:*)")
            continue
        rows.append(row)
        wanted = f"difference of {case.name} ≤ 1e-12"
        goals.append(Goal("exactness", wanted, f"{difference:.1g}", difference <= 1e-12))  # noqa: PLR2004
    return Section("Estimators", rows, goals, notes)


def cases() -> Iterator[Case]:
    """Yield what is measured."""
    mixed = [*NUMBERS, *CATEGORIES]
    yield Case("LinearRegression", LinearRegression, NUMBERS)
    yield Case("StandardScaler, Ridge", lambda: make_pipeline(StandardScaler(), Ridge()), NUMBERS)
    yield Case("LogisticRegression", LogisticRegression, NUMBERS, classifies=True)
    yield Case("DecisionTreeRegressor", lambda: DecisionTreeRegressor(max_depth=10), NUMBERS)
    yield Case("RandomForestRegressor, 100 trees", RandomForestRegressor, NUMBERS)
    yield Case("ExtraTreesRegressor, 100 trees", ExtraTreesRegressor, NUMBERS)
    yield Case("GradientBoostingRegressor", GradientBoostingRegressor, NUMBERS)
    yield Case("HistGradientBoostingRegressor", HistGradientBoostingRegressor, NUMBERS)
    yield Case(
        "HistGradientBoostingClassifier", HistGradientBoostingClassifier, NUMBERS, classifies=True
    )
    yield Case(
        "ColumnTransformer, OneHotEncoder, HistGradientBoostingClassifier",
        lambda: _behind_encoder(HistGradientBoostingClassifier()),
        mixed,
        classifies=True,
    )
    yield Case("ColumnTransformer, OneHotEncoder, SVR", lambda: _behind_encoder(SVR()), mixed)
    for library, prefix in (("xgboost", "XGB"), ("lightgbm", "LGBM"), ("catboost", "CatBoost")):
        for kind in ("Regressor", "Classifier"):
            yield Case(
                f"{prefix}{kind}, categories",
                _booster(library, prefix + kind),
                mixed,
                classifies=kind == "Classifier",
                as_categories=library != "catboost",
            )


def _behind_encoder(estimator: Any) -> Any:  # noqa: ANN401
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = make_column_transformer((encoder, CATEGORIES), remainder="passthrough")
    return make_pipeline(columns, estimator)


def _booster(library: str, name: str) -> Callable[[], Any]:
    options: dict[str, dict[str, Any]] = {
        "xgboost": {"enable_categorical": True, "n_jobs": 1},
        "lightgbm": {"verbose": -1, "n_jobs": 1},
        "catboost": {
            "verbose": False,
            "allow_writing_files": False,
            "cat_features": CATEGORIES,
            "thread_count": 1,
        },
    }
    return lambda: getattr(import_module(library), name)(n_estimators=100, **options[library])


def _frame(case: Case) -> pd.DataFrame:
    """Return 1,000 rows whose target depends on a number and a category."""
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {name: random.normal(size=ROWS) for name in NUMBERS}
    columns |= {name: random.choice(["x", "y", "z"], ROWS) for name in CATEGORIES}
    frame = pd.DataFrame(columns)
    value = frame["n0"] * 2 + (frame["c0"] == "x") + random.normal(size=ROWS)
    return frame[case.columns].assign(
        **{TARGET: (value > 0).astype(int) if case.classifies else value}
    )


def _measure(case: Case, bench: Bench) -> tuple[list[str], float]:
    frame = _frame(case)
    eaten = frame[case.columns]
    if case.as_categories:
        eaten = eaten.astype(dict.fromkeys(CATEGORIES, "category"))
    fitted = with_one_thread(case.make().fit(eaten, frame[TARGET]))
    features = [infer(Column(name), frame) for name in case.columns]
    recipe = Recipe("measured", Quantity(name=TARGET, description=""), features)
    output = Path(bench.bundle).with_name("estimator")
    manifest = bundle_fitted(fitted, frame, None, recipe, output, accept_in_sample=True)
    rows = cells(frame, manifest.features)
    codes = Encoder(manifest.features).codes(rows)
    served, plain = load_bundle(output).model, wrap(fitted, manifest)
    call = fitted.predict_proba if case.classifies else fitted.predict
    outputs, alone = np.asarray(call(eaten), dtype=np.float64), eaten.head(1)
    difference = np.abs(served.predict(rows, codes) - outputs).max() / np.abs(outputs).max()
    many = (lambda: served.predict(rows, codes), lambda: call(eaten))
    one = (
        lambda: served.predict(rows[:1], codes[:1]),
        lambda: plain.predict(rows[:1], codes[:1]),
        lambda: call(alone),
    )
    row = [
        case.name,
        "yes" if {TREES_FILE, PROGRAM_FILE} & manifest.files.keys() else "no",
        f"{difference:.0e}" if difference else "0",
        *(number_text(microseconds(each, bench.rounds)) for each in one),
        *(number_text(ROWS * 1e6 / microseconds(each, bench.rounds)) for each in many),
    ]
    return row, float(difference)
