"""Compile the estimators of XGBoost and LightGBM: their own booster, behind known columns.

A booster is asked for codes of categories, by their place in the lists that it keeps.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import nan
from typing import Any

import numpy as np

from bundle.arrays import Floats
from bundle.boosters import Booster, LightGBM, XGBoost, content_of
from bundle.columns import Columns
from bundle.compile_columns import Column, NotCompilableError, Raw, Source, Table
from bundle.encode import Cell, Encoder


def boost(
    model: Any,  # noqa: ANN401
    columns: Sequence[Column],
    source: Source,
    *,
    is_sparse: bool,
) -> tuple[list[Column], Booster]:
    """Return the columns that a fitted booster eats, and it. Raises NotCompilableError.

    `is_sparse` is whether what precedes it makes a sparse matrix.
    """
    place = (type(model).__module__.partition(".")[0], type(model).__name__)
    convert = _BOOSTERS.get(place)
    if convert is None:
        raise NotCompilableError(type(model).__name__)
    return convert(model, columns, source, is_sparse)


def _xgboost(
    model: Any,  # noqa: ANN401
    columns: Sequence[Column],
    source: Source,
    is_sparse: bool,  # noqa: FBT001
) -> tuple[list[Column], Booster]:
    if model.booster == "gblinear":
        raise NotCompilableError("gblinear")
    booster = model.get_booster()
    stopped = booster.attr("best_iteration")
    core = XGBoost(
        content_of(bytes(booster.save_raw("ubj"))),
        trees=0 if stopped is None else int(stopped) + 1,
        missing=float(model.missing),
        zero_is_missing=is_sparse,
    )
    if not any(isinstance(each, Raw) for each in columns):
        return [*columns], core
    known = _categories_of_xgboost(json.loads(booster.save_raw("json")))
    if len(known) != len(columns):
        raise NotCompilableError("categories that the booster does not name")
    pairs = zip(columns, known, strict=True)
    return [_coded(each, source, codes, rejects_unseen=True) for each, codes in pairs], core


def _categories_of_xgboost(content: Any) -> list[dict[Cell, float]]:  # noqa: ANN401
    """Return the code of each category, for each feature; a number has none."""
    model = content["learner"]["gradient_booster"]
    model = model.get("gbtree", model).get("model", {})
    return [_codes(_values(each)) for each in model.get("cats", {}).get("enc", [])]


def _values(encoded: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield categories: numbers, or text as bytes that follow each other."""
    values = encoded["values"]
    if "offsets" not in encoded:
        yield from values
        return
    text = bytes(each % 256 for each in values)
    offsets = encoded["offsets"]
    for start, end in pairwise(offsets):
        yield text[start:end].decode()


def _lightgbm(
    model: Any,  # noqa: ANN401
    columns: Sequence[Column],
    source: Source,
    is_sparse: bool,  # noqa: ARG001, FBT001 zeros are zeros to LightGBM
) -> tuple[list[Column], Booster]:
    booster = model.booster_
    trees = int(booster.best_iteration)
    core = LightGBM(
        content_of(booster.model_to_string(num_iteration=-1).encode()),
        trees=trees if trees > 0 else -1,
        width=len(columns),
    )
    known = iter(booster.pandas_categorical or [])
    coded = [
        _coded(each, source, _codes(next(known, ())), rejects_unseen=False)
        if isinstance(each, Raw)
        else each
        for each in columns
    ]
    if next(known, None) is not None:
        raise NotCompilableError("more categories than columns of them")
    return coded, core


def _codes(values: Any) -> dict[Cell, float]:  # noqa: ANN401
    return {value: float(code) for code, value in enumerate(values)}


def _coded(
    column: Column, source: Source, codes: dict[Cell, float], *, rejects_unseen: bool
) -> Column:
    """Return a category by the booster's codes. An unseen one counts as missing, or is rejected.

    XGBoost means to reject it, but 3.2 takes it for the next one in alphabetical order, if any.
    """
    if not isinstance(column, Raw):
        return column
    if not codes:
        raise NotCompilableError("a category that the booster does not know as one")
    known = source.features[column.source].categories
    values = np.array([*(codes.get(each, nan) for each in known), nan, nan])
    is_unseen = np.array([*(each not in codes for each in known), True, False])
    return Table(column.source, values, is_unseen & rejects_unseen)


def is_exact_alone(core: Booster, columns: Columns, codes: Floats) -> bool:
    """Return whether one row at a time gives the bits that many rows give."""
    rows = columns.of(codes[: core.checked_alone])
    together = core.predict(rows)
    alone = (core.predict(rows[at : at + 1])[0] for at in range(len(rows)))
    return all(map(np.array_equal, alone, together))


def agree(
    estimator: Callable[[Any], Floats],
    compiled: Callable[[Floats], Floats],
    source: Source,
    examples: Sequence[Sequence[Cell]],
    *,
    with_unseen: bool,
) -> bool:
    """Return whether both predict or reject rows with missing, and unseen, categories alike."""
    encoder = Encoder(source.features)
    for place, feature in enumerate(source.features):
        if feature.type != "category":
            continue
        unseen, missing = source.values(place)[-2:]
        wanted = [unseen] * (with_unseen and feature.unseen == "pass") + [
            missing
        ] * feature.nullable
        for value in wanted:
            rows = [(*each[:place], value, *each[place + 1 :]) for each in examples]
            given, codes = source.build(rows), encoder.codes(rows)
            if not np.array_equal(_answer(estimator, given), _answer(compiled, codes)):
                return False
    return True


def _answer(predict: Callable[[Any], Floats], given: Any) -> Any:  # noqa: ANN401
    try:
        return predict(given)
    except ValueError:
        return None


_Convert = Callable[[Any, Sequence[Column], Source, bool], tuple[list[Column], Booster]]
_BOOSTERS: dict[tuple[str, str], _Convert] = {
    ("xgboost", "XGBRegressor"): _xgboost,
    ("xgboost", "XGBClassifier"): _xgboost,
    ("xgboost", "XGBRFRegressor"): _xgboost,
    ("xgboost", "XGBRFClassifier"): _xgboost,
    ("lightgbm", "LGBMRegressor"): _lightgbm,
    ("lightgbm", "LGBMClassifier"): _lightgbm,
}
