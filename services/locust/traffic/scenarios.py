"""The mixes of requests. To add one, write its makers and enter the mix in SCENARIOS.

A maker turns a row and a random source into one action; it does nothing else, so that a seed
determines every request.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from wine_quality.data import TARGET, Row

FEEDBACK = "/feedback"

# Just over MODEL_MAX_BODY_BYTES' default.
TOO_LARGE_BYTES = 2_000_001
# Deeper than any parser's stack.
NESTING = 100_000

_NO_LITERALS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Action:
    """One request, and what answers it rightly."""

    name: str
    method: str
    path: str
    body: bytes
    status: int
    actual: float | None = None
    """The true value of what is to be predicted; None where no prediction is expected."""


Maker = Callable[[Row, Random], Action]
Mix = dict[Maker, int]


def predict(row: Row, _rng: Random) -> Action:
    """Ask about a row."""
    return Action("predict", "POST", "/predict", _encode(_features(row)), 200, row[TARGET])


def health(_row: Row, _rng: Random) -> Action:
    """Ask whether the service is alive."""
    return Action("health", "GET", "/healthz", b"", 200)


def feedback(labels: Sequence[dict[str, object]]) -> Action:
    """Return true values of earlier predictions."""
    return Action("feedback", "POST", FEEDBACK, json.dumps(labels).encode(), 200)


def unknown_field(row: Row, _rng: Random) -> Action:
    """Ask with a field that the model does not know, which is to be ignored."""
    body = _encode({**_features(row), "vintage": "2004"})
    return Action("unknown_field", "POST", "/predict", body, 200, row[TARGET])


def wrong_method(_row: Row, _rng: Random) -> Action:
    """Ask for a prediction with GET."""
    return Action("wrong_method", "GET", "/predict", b"", 405)


def _refused(name: str, spoil: Callable[[Row, Random], bytes], status: int = 422) -> Maker:
    """Return the maker of a prediction request whose body `spoil` makes from the features."""

    def make(row: Row, rng: Random) -> Action:
        return Action(name, "POST", "/predict", spoil(_features(row), rng), status)

    return make


def _one_field(name: str, *literals: str, fields: tuple[str, ...] = ()) -> Maker:
    """Return the maker of a request with one of `fields` (none: any) set to one of `literals`."""

    def spoil(features: Row, rng: Random) -> bytes:
        field = rng.choice(fields or tuple(features))
        return _encode(features, {field: rng.choice(literals)})

    return _refused(name, spoil)


def _without_one(features: Row, rng: Random) -> bytes:
    left_out = rng.choice(tuple(features))
    return _encode({name: value for name, value in features.items() if name != left_out})


def _too_large(features: Row, _rng: Random) -> bytes:
    return _encode(features).ljust(TOO_LARGE_BYTES)


def _features(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != TARGET}


def _encode(values: Mapping[str, object], literals: Mapping[str, str] = _NO_LITERALS) -> bytes:
    """Return a JSON object, with `literals` in place of some values: they need not be JSON."""
    texts = {name: json.dumps(value) for name, value in values.items()} | dict(literals)
    members = (f"{json.dumps(name)}: {text}" for name, text in texts.items())
    return f"{{{', '.join(members)}}}".encode()


bad_value = _one_field("bad_value", '"not a number"')

SCENARIOS: dict[str, Mix] = {
    # Production, mostly well-behaved.
    "steady": {predict: 10, health: 1, bad_value: 2},
    # Everything that the service must refuse, and one thing that it must ignore.
    "malformed": {
        _refused("not_json", lambda _features, _rng: b"fixed_acidity=7.4&ph=3.5"): 10,
        _refused("truncated", lambda features, _rng: _encode(features)[:-1]): 10,
        _refused("not_utf8", lambda features, _rng: _encode(features)[:-1] + b', "\xff": 1}'): 10,
        _refused("empty", lambda _features, _rng: b""): 10,
        _refused("array", lambda features, _rng: b"[" + _encode(features) + b"]"): 10,
        _refused("scalar", lambda _features, rng: rng.choice((b"null", b"7.4", b'"wine"'))): 10,
        _refused("nested", lambda _features, _rng: b"[" * NESTING): 1,
        _refused("missing_field", _without_one): 10,
        _one_field("wrong_type", '"7.4"', "true", "[7.4]", '{"value": 7.4}'): 10,
        _one_field("null", "null"): 10,
        _one_field("not_finite", "NaN", "Infinity", "-Infinity"): 10,
        # Finite as text, infinite as a double.
        _one_field("overflow", "1e999", "1" + "0" * 400): 10,
        _one_field("below", "-1.0", "-1e9"): 10,
        _one_field("above", "101.0", "1e9", fields=("ph", "alcohol_pct_vol")): 10,
        unknown_field: 10,
        wrong_method: 10,
        _refused("too_large", _too_large, status=413): 1,
    },
}


def requests_of(mix: Mix, row: Row) -> list[tuple[str, str]]:
    """Return (method, name) of every request in a mix."""
    rng = Random(0)  # noqa: S311 simulation
    return [(action.method, action.name) for action in (make(row, rng) for make in mix)]
