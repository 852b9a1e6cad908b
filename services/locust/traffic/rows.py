"""The rows that a client sends: from the usual population, or from a drifted one."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

from traffic.drift import DRIFTED, GRADUAL, Drift
from traffic.errors import TrafficError
from traffic.manifest import Feature, Manifest
from traffic.values import Value, read_cell, read_class, shift

T = TypeVar("T")

HELD_OUT = "held_out"
# The values of LOCUST_ROWS other than the path of a CSV file.
SOURCES = (HELD_OUT, DRIFTED, GRADUAL)
# Names of files in the bundle.
HELD_OUT_FILE = "held_out.csv"
DRIFTED_FILE = "drifted.csv"


class Row(NamedTuple):
    """A row's features by name, in the model's order, and its true value if that is known."""

    features: dict[str, Value]
    actual: Value


@dataclass(frozen=True)
class Populations:
    """The rows that a client draws from."""

    usual: Sequence[Row]
    drifted: Sequence[Row]


def load_populations(source: str, manifest: Manifest) -> Populations:
    """Return the rows for a value of LOCUST_ROWS. Raises TrafficError.

    If the bundle has no drifted rows, they are the usual rows shifted (see `values.shift`).
    """
    usual = read_rows(_usual_file(source, manifest), manifest)
    if DRIFTED_FILE in manifest.files:
        return Populations(usual, read_rows(manifest.path.with_name(DRIFTED_FILE), manifest))
    return Populations(usual, [shifted(row, manifest.features) for row in usual])


def _usual_file(source: str, manifest: Manifest) -> Path:
    if source not in SOURCES:
        path = manifest.path.parent / source
        if not path.is_file():
            raise TrafficError(
                f"LOCUST_ROWS: {source!r} is none of {', '.join(SOURCES)}, and {path} is no file"
            )
        return path
    if HELD_OUT_FILE not in manifest.files:
        raise TrafficError(
            f"LOCUST_ROWS: {manifest.path} lists no {HELD_OUT_FILE}:"
            " build the bundle again, or name a CSV file"
        )
    return manifest.path.with_name(HELD_OUT_FILE)


def read_rows(path: Path, manifest: Manifest) -> list[Row]:
    """Return the rows of a CSV file with a header, all features, and optionally the target.

    Raises TrafficError.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or (), manifest)
            rows = [_row(path, reader.line_num, values, manifest) for values in reader]
    except OSError as error:
        raise TrafficError(f"LOCUST_ROWS: {path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise TrafficError(f"LOCUST_ROWS: {path} is not a CSV file: {error}") from error
    if not rows:
        raise TrafficError(f"LOCUST_ROWS: {path} has no rows")
    return rows


def _check_columns(path: Path, found: Iterable[str], manifest: Manifest) -> None:
    names = {feature.name for feature in manifest.features}
    if missing := sorted(names.difference(found)):
        raise TrafficError(f"LOCUST_ROWS: {path} has no column {', '.join(missing)}")
    if unknown := sorted(set(found) - names - {manifest.target}):
        raise TrafficError(
            f"LOCUST_ROWS: {path}: {', '.join(unknown)} is neither a feature nor the target"
            f" of {manifest.name}"
        )


def _row(path: Path, line: int, values: dict[str, str | None], manifest: Manifest) -> Row:
    features = {
        feature.name: _value(path, line, feature, values[feature.name])
        for feature in manifest.features
    }
    text = values.get(manifest.target)
    read = partial(read_class, manifest)
    return Row(features, _read(path, line, manifest.target, text, read) if text else None)


def _value(path: Path, line: int, feature: Feature, text: str | None) -> Value:
    if text:
        return _read(path, line, feature.name, text, partial(read_cell, feature))
    if feature.nullable:
        return None
    raise TrafficError(f"LOCUST_ROWS: {path}, line {line}: {feature.name} is empty")


def _read(path: Path, line: int, name: str, text: str, read: Callable[[str], Value]) -> Value:
    try:
        return read(text)
    except ValueError as error:
        raise TrafficError(
            f"LOCUST_ROWS: {path}, line {line}: {name} is {text!r}, not {error}"
        ) from error


def shifted(row: Row, features: Iterable[Feature]) -> Row:
    """Return a row of which every feature has drifted."""
    return row._replace(
        features={each.name: shift(each, row.features[each.name]) for each in features}
    )


def shuffled(items: Sequence[T], rng: Random) -> Iterator[T]:
    """Yield all items, round after round, each round in a new order.

    Each round has the exact proportions; independent draws would add noise.
    """
    while True:
        yield from rng.sample(items, len(items))


class Supply:
    """An endless, seeded supply of rows from the population that `drift` selects."""

    def __init__(self, populations: Populations, drift: Drift, rng: Random) -> None:
        self._drift = drift
        self._rng = rng
        self._usual = shuffled(populations.usual, rng)
        self._drifted = shuffled(populations.drifted, rng)

    def next(self) -> Row:
        """Return the next row to send."""
        drifted = self._rng.random() < self._drift.share()
        return next(self._drifted if drifted else self._usual)
