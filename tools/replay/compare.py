"""Compare logged predictions with those of another model, version by version."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from bundle.arrays import Floats
from publisher.header import Category, Column
from tools.replay.classification import Classes
from tools.replay.log import Codes, Log, Part, ReplayError, Row
from tools.replay.predict import IncomparableError, Predict, RowsRejectedError
from tools.replay.regression import Largest, Numbers

# So many rows are tried alone before a part is divided.
_PROBES = 10


@dataclass
class Version:
    """The comparison with one logged version."""

    changes: Numbers | Classes
    rows: int = 0
    rejected: int = 0
    reason: str = ""
    """Why the first rejected row was rejected."""
    incomparable: str = ""
    """Why none of the rows can be compared."""


@dataclass
class Comparison:
    """All versions, and the distinct rows with the largest differences of numbers."""

    versions: dict[str, Version]
    largest: Largest


def compare(log: Log, predict: Predict, worst: int) -> Comparison:
    """Return the comparison of a log with another model. Raises ReplayError."""
    labels = log.labels()
    versions: dict[str, Version] = {}
    largest = Largest(worst)
    for part in log.parts():
        if part.version not in versions:
            changes = Classes(log.codes) if part.classes else Numbers(largest)
            versions[part.version] = Version(changes)
        version = versions[part.version]
        version.rows += len(part.rows)
        if version.incomparable:
            continue
        try:
            new = _encode(part, log.codes, _predict_part(part, predict, version))
        except IncomparableError as error:
            version.incomparable = str(error)
        else:
            version.changes.add(part, new, labels.find(part.keys))
    if not versions:
        raise ReplayError(f"the log contains no prediction ({log.damage})")
    if all(each.incomparable for each in versions.values()):
        first = next(iter(versions))
        raise ReplayError(f"version {first}: {versions[first].incomparable}")
    return Comparison(versions, largest)


def _predict_part(part: Part, predict: Predict, version: Version) -> list[Category | None]:
    """Return a prediction for each row, None for rejected ones.

    If the first rows of a version, tried alone, are all rejected, it raises IncomparableError:
    otherwise each row of the log would be tried alone in the end.
    """
    try:
        return predict(part.columns, part.rows)
    except RowsRejectedError:
        if version.rows == len(part.rows):
            _try_alone(part, predict)
        return _predict(part.columns, part.rows, predict, version)


def _try_alone(part: Part, predict: Predict) -> None:
    reasons: list[str] = []
    for row in part.rows[:_PROBES]:
        try:
            predict(part.columns, [row])
        except RowsRejectedError as error:
            reasons.append(str(error))
        else:
            return
    raise IncomparableError(f"the other model rejects all rows; the first: {reasons[0]}")


def _predict(
    columns: Sequence[Column], rows: list[Row], predict: Predict, version: Version
) -> list[Category | None]:
    """Return a prediction for each row, None for rejected ones: bisects the rows to find them."""
    try:
        return predict(columns, rows)
    except RowsRejectedError as error:
        if len(rows) == 1:
            version.rejected += 1
            version.reason = version.reason or str(error)
            return [None]
        middle = len(rows) // 2
        halves = (rows[:middle], rows[middle:])
        return [each for half in halves for each in _predict(columns, half, predict, version)]


def _encode(part: Part, codes: Codes, predictions: list[Category | None]) -> Floats:
    """Return numbers, or the codes of classes, (n,), NaN for none. Raises ReplayError."""
    if part.classes:
        kinds = {*map(type, part.classes)}
        if any(isinstance(each, float) and float not in kinds for each in predictions):
            raise ReplayError(f"the other model predicts numbers, version {part.version} classes")
        return np.array([nan if each is None else codes.code(each) for each in predictions])
    if any(isinstance(each, bool | str) for each in predictions):
        raise ReplayError(f"the other model predicts classes, version {part.version} numbers")
    return np.array([nan if each is None else float(each) for each in predictions])


def report(log: Log, comparison: Comparison) -> Iterator[str]:
    """Yield the lines of the comparison."""
    if log.damage.lines or log.damage.files:
        yield f"skipped: {log.damage}"
    for name, version in comparison.versions.items():
        yield f"{version.rows} predictions of version {name}"
        if version.incomparable:
            yield f"not compared: {version.incomparable}"
            continue
        if version.rejected:
            yield f"rejected rows: {version.rejected}; the first: {version.reason}"
        yield from version.changes.report()
    yield from comparison.largest.report()
