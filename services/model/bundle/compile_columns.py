"""Fold what precedes an estimator's core into `bundle.columns`: scalers, imputers, encoders.

Numbers are followed step by step. A category has few values, so its encoder is not followed but
asked: each value is sent through the fitted encoder, and the answers are the table.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)

from bundle.arrays import Floats
from bundle.columns import Columns, Lookup, Numbers, Step, apply
from bundle.encode import Cell
from bundle.manifest import Feature

_ENCODERS = (OneHotEncoder, OrdinalEncoder, TargetEncoder, SimpleImputer)


class NotCompilableError(Exception):
    """The estimator cannot be compiled and is served uncompiled."""


@dataclass(frozen=True)
class Number:
    """A column of numbers: the codes of column `source` after `steps`, one parameter each."""

    source: int
    steps: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Table:
    """A column that depends on one category: a value for each code (see columns.Lookup)."""

    source: int
    values: Floats
    is_rejected: NDArray[np.bool_]

    def answers(self) -> list[float]:
        """Return the value for each code."""
        return [*map(float, self.values)]


@dataclass(frozen=True)
class Raw:
    """A category that nothing has encoded yet."""

    source: int


Column = Number | Table | Raw


@dataclass(frozen=True)
class Source:
    """The estimator's input: its features, and how rows of cells become what it eats."""

    features: Sequence[Feature]
    build: Callable[[Sequence[Sequence[Cell]]], Any]
    example: Sequence[Cell]

    def columns(self) -> list[Column]:
        """Return the columns before any step."""
        return [
            Raw(place) if feature.type == "category" else Number(place)
            for place, feature in enumerate(self.features)
        ]

    def values(self, place: int) -> list[Cell]:
        """Return every value of a feature: its categories, an unseen one, and a missing one."""
        feature = self.features[place]
        if feature.type == "boolean":
            return [False, True, False, float("nan")]
        return [*feature.categories, _unseen(feature.categories), None]


def _unseen(categories: Sequence[Any]) -> Cell:
    """Return a value of the categories' type that is none of them."""
    if isinstance(categories[0], str):
        return "unseen".join(sorted(map(str, categories), key=len)[-1:] * 2)
    return max(map(float, categories)) + 1


def fold(transformer: Any, columns: Sequence[Column], source: Source) -> list[Column]:  # noqa: ANN401
    """Return the columns after a fitted transformer. Raises NotCompilableError."""
    if isinstance(transformer, ColumnTransformer):
        return _fold_parts(transformer, columns, source)
    if any(isinstance(each, Raw) for each in columns) or isinstance(transformer, OneHotEncoder):
        return _tabulate(transformer, lambda eaten: eaten, range(len(columns)), columns, source)
    return _fold_steps(transformer, columns)


def _fold_steps(transformer: Any, columns: Sequence[Column]) -> list[Column]:  # noqa: ANN401
    if transformer == "passthrough" or _is_identity(transformer):
        return [*columns]
    if isinstance(transformer, Pipeline):
        for _, step in transformer.steps:
            columns = _fold_steps(step, columns)
        return [*columns]
    found = [*columns]
    for name, parameters in _steps(transformer):
        pairs = zip(found, np.broadcast_to(parameters, len(columns)).tolist(), strict=True)
        found = [_then(column, name, parameter) for column, parameter in pairs]
    return found


def _then(column: Column, name: str, parameter: float) -> Column:
    if isinstance(column, Number):
        return replace(column, steps=(*column.steps, (name, parameter)))
    if isinstance(column, Table):
        values = apply((name, np.array([parameter])), column.values[:, None])[:, 0]
        return replace(column, values=values)
    raise NotCompilableError("a scaler of categories")


def _is_identity(transformer: Any) -> bool:  # noqa: ANN401
    return isinstance(transformer, FunctionTransformer) and transformer.func is None


def _steps(transformer: Any) -> Iterator[Step]:  # noqa: ANN401
    """Yield what a fitted transformer of numbers does, in its order."""
    kind = type(transformer)
    if kind is StandardScaler:
        if transformer.with_mean:
            yield "subtract", transformer.mean_
        if transformer.with_std:
            yield "divide", transformer.scale_
    elif kind is MinMaxScaler:
        yield "multiply", transformer.scale_
        yield "add", transformer.min_
        if transformer.clip:
            low, high = transformer.feature_range
            yield "at_least", np.array([float(low)])
            yield "at_most", np.array([float(high)])
    elif kind is SimpleImputer:
        _check_imputer(transformer)
        yield "fill", transformer.statistics_.astype(np.float64)
    else:
        raise NotCompilableError(f"{kind.__name__}")


def _check_imputer(imputer: SimpleImputer) -> None:
    try:
        statistics = imputer.statistics_.astype(np.float64)
    except ValueError:
        raise NotCompilableError("a SimpleImputer of text") from None
    if imputer.add_indicator or np.isnan(statistics).any():
        raise NotCompilableError("a SimpleImputer that adds or removes columns")
    if not (isinstance(imputer.missing_values, float) and np.isnan(imputer.missing_values)):
        raise NotCompilableError("a SimpleImputer of values other than NaN")


def _fold_parts(
    transformer: ColumnTransformer, columns: Sequence[Column], source: Source
) -> list[Column]:
    if transformer.transformer_weights:
        raise NotCompilableError("weights of transformers")
    found: list[Column] = []
    for _, part, selected in transformer.transformers_:
        places = _places(selected, source.features)
        if (isinstance(part, str) and part == "drop") or not places:
            continue
        chosen = [columns[place] for place in places]
        if _needs_table(part, chosen):
            found += _tabulate(part, _select(selected), places, columns, source)
        else:
            found += _fold_steps(part, chosen)
    return found


def _needs_table(part: Any, chosen: Sequence[Column]) -> bool:  # noqa: ANN401
    """Return whether a part encodes: it has categories, or an encoder of booleans."""
    is_encoder = any(isinstance(step, OneHotEncoder | OrdinalEncoder) for step in _flat(part))
    return is_encoder or any(isinstance(each, Raw) for each in chosen)


def _flat(part: Any) -> list[Any]:  # noqa: ANN401
    return [step for _, step in part.steps] if isinstance(part, Pipeline) else [part]


def _places(selected: Any, features: Sequence[Feature]) -> list[int]:  # noqa: ANN401
    """Return the places of a ColumnTransformer's selection: names, indices, a slice or a mask."""
    names = [feature.source for feature in features]
    if isinstance(selected, str | int):
        raise NotCompilableError("a column that is selected as a vector")
    if isinstance(selected, slice):
        if isinstance(selected.start, str) or isinstance(selected.stop, str):
            raise NotCompilableError("a slice of names")
        return [*range(len(names))[selected]]
    chosen = np.asarray(selected)
    if chosen.dtype.kind == "b":
        return np.flatnonzero(chosen).tolist()
    if chosen.dtype.kind in "iu":
        return [*map(int, np.arange(len(names))[chosen])]
    return [names.index(str(name)) for name in chosen.tolist()]


def _select(selected: Any) -> Callable[[Any], Any]:  # noqa: ANN401
    """Return a function that selects the same columns of what the estimator eats."""

    def select(eaten: Any) -> Any:  # noqa: ANN401
        if not hasattr(eaten, "iloc"):
            return eaten[:, selected]
        names = (
            np.asarray(selected).dtype.kind in "UO" if not isinstance(selected, slice) else False
        )
        return eaten[[*selected]] if names else eaten.iloc[:, selected]

    return select


def _tabulate(
    part: Any,  # noqa: ANN401
    select: Callable[[Any], Any],
    places: Sequence[int],
    columns: Sequence[Column],
    source: Source,
) -> list[Column]:
    """Return the columns of an encoder, by asking it for every value of each of its features."""
    if not all(isinstance(step, _ENCODERS) for step in _flat(part)):
        raise NotCompilableError(f"{type(part).__name__} of categories")
    finite = ("category", "boolean")
    for place in places:
        column = columns[place]
        is_raw = column in (Raw(place), Number(place))
        if not is_raw or source.features[place].type not in finite:
            raise NotCompilableError("an encoder of numbers")

    def encode(rows: Sequence[Sequence[Cell]]) -> Floats:
        with warnings.catch_warnings():
            # Some encoders warn of an unseen category, which is asked for on purpose.
            warnings.simplefilter("ignore")
            encoded = part.transform(select(source.build(rows)))
        dense = encoded.toarray() if hasattr(encoded, "toarray") else encoded
        return np.asarray(dense, dtype=np.float64)

    tables = [_table(place, encode, source) for place in places]
    return [*_owned(tables, places)]


def encode_categories(
    encoder: OrdinalEncoder, mask: NDArray[np.bool_], columns: Sequence[Column], source: Source
) -> list[Column]:
    """Return the columns of a mask after a fitted OrdinalEncoder of them."""
    places = np.flatnonzero(mask).tolist()
    if all(isinstance(columns[place], Table) for place in places):
        return [
            _encode_table(columns[place], known)
            for place, known in zip(places, encoder.categories_, strict=True)
        ]
    return _tabulate(encoder, _select(mask), places, columns, source)


def _encode_table(column: Column, known: Any) -> Column:  # noqa: ANN401
    if not isinstance(column, Table):
        raise NotCompilableError("an encoder of numbers")
    codes = {float(value): float(code) for code, value in enumerate(known) if value == value}  # noqa: PLR0124 NaN
    values = np.array([codes.get(value, np.nan) for value in column.answers()])
    return replace(column, values=values)


def _table(
    place: int, encode: Callable[[Sequence[Sequence[Cell]]], Floats], source: Source
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the encoder's answers (values, width) for one feature, and which it rejects."""
    rows = [
        [*source.example[:place], value, *source.example[place + 1 :]]
        for value in source.values(place)
    ]
    answers = _answers(rows, encode)
    known = next((each for each in answers if each is not None), None)
    if known is None:
        raise NotCompilableError("an encoder that rejects every value")
    blank = np.full_like(known, np.nan)
    return (
        np.array([blank if each is None else each for each in answers]),
        np.array([each is None for each in answers]),
    )


def _answers(
    rows: Sequence[Sequence[Cell]], encode: Callable[[Sequence[Sequence[Cell]]], Floats]
) -> list[Floats | None]:
    """Return the encoder's answer to each row, None for one that it rejects."""
    try:
        return [*encode(rows)]
    except (TypeError, ValueError):
        return [None] if len(rows) == 1 else [_answers([row], encode)[0] for row in rows]


def _owned(
    tables: Sequence[tuple[Floats, NDArray[np.bool_]]], places: Sequence[int]
) -> Iterator[Column]:
    """Yield each column of an encoder as a table of the one feature that it depends on."""
    width = tables[0][0].shape[1]
    for number in range(width):
        owners = [
            at
            for at, (values, is_rejected) in enumerate(tables)
            if _varies(values[~is_rejected, number])
        ]
        if len(owners) > 1:
            raise NotCompilableError("an encoder that mixes its columns")
        owner = owners[0] if owners else 0
        values, is_rejected = tables[owner]
        yield Table(places[owner], values[:, number], is_rejected)


def _varies(values: Floats) -> bool:
    known = values[~np.isnan(values)]
    return bool((known != known[:1]).any()) or 0 < len(known) < len(values)


def assemble(
    columns: Sequence[Column], *, as_float32: bool = False, rejects: str = "nothing"
) -> Columns:
    """Return the columns as blocks of equal steps or of equal sources."""
    numbers: dict[tuple[str, ...], list[int]] = {}
    tables: dict[int, list[int]] = {}
    for place, column in enumerate(columns):
        if isinstance(column, Number):
            numbers.setdefault(tuple(name for name, _ in column.steps), []).append(place)
        elif isinstance(column, Table):
            tables.setdefault(column.source, []).append(place)
        else:
            raise NotCompilableError("categories that are not encoded")
    return Columns(
        numbers=[_numbers(columns, names, places) for names, places in numbers.items()],
        lookups=[_lookup(columns, source, places) for source, places in tables.items()],
        width=len(columns),
        as_float32=as_float32,
        rejects=rejects,
    )


def _numbers(columns: Sequence[Column], names: Sequence[str], places: list[int]) -> Numbers:
    chosen = [
        column for column in (columns[place] for place in places) if isinstance(column, Number)
    ]
    steps = [
        (name, np.array([column.steps[number][1] for column in chosen]))
        for number, name in enumerate(names)
    ]
    return Numbers(
        np.array([each.source for each in chosen], np.intp), np.array(places, np.intp), steps
    )


def _lookup(columns: Sequence[Column], source: int, places: list[int]) -> Lookup:
    chosen = [
        column for column in (columns[place] for place in places) if isinstance(column, Table)
    ]
    return Lookup(
        source,
        np.array(places, np.intp),
        np.column_stack([each.values for each in chosen]),
        np.logical_or.reduce([each.is_rejected for each in chosen]),
    )
