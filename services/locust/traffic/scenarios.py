"""The mixes of requests. To add one, write its makers and add the mix to SCENARIOS.

A mix is created for the manifest of a bundle. A maker turns a row and a random source into one
action and has no other input, so that a seed determines every request.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from urllib.parse import urlencode

from traffic.manifest import Feature, Manifest
from traffic.rows import Row
from traffic.values import Value, bad_literal, wrong_literals

FEEDBACK = "/feedback"

# One more than the default of MODEL_MAX_BODY_BYTES.
TOO_LARGE_BYTES = 2_000_001
# Deeper than the stack of any parser.
NESTING = 100_000

_NO_LITERALS: Mapping[str, str] = MappingProxyType({})


Classes = tuple[float | bool | str, ...]


@dataclass(frozen=True)
class Action:
    """One request, and the answer that is expected."""

    name: str
    method: str
    path: str
    body: bytes
    status: int
    target: str | None = None
    """The target that the answer must contain; None if no prediction is expected."""
    actual: Value = None
    """The true value, if that is known."""
    classes: Classes = ()
    """The values of the target; none: any finite number."""


Features = dict[str, Value]
Maker = Callable[[Row, Random], Action]
Spoil = Callable[[Features, Random], bytes]
Mix = dict[Maker, int]


def predict(target: str, classes: Classes = ()) -> Maker:
    """Return the maker of a prediction request for a row."""

    def make(row: Row, _rng: Random) -> Action:
        body = _encode(row.features)
        return Action("predict", "POST", "/predict", body, 200, target, row.actual, classes)

    return make


def health(_row: Row, _rng: Random) -> Action:
    """Request the liveness endpoint."""
    return Action("health", "GET", "/healthz", b"", 200)


def feedback(labels: Sequence[dict[str, object]]) -> Action:
    """Send labels of earlier predictions."""
    return Action("feedback", "POST", FEEDBACK, json.dumps(labels).encode(), 200)


def unknown_field(target: str, classes: Classes = ()) -> Maker:
    """Return the maker of a request with an undeclared field, which the service must ignore."""

    def make(row: Row, _rng: Random) -> Action:
        name = "unknown"
        while name in row.features:
            name += "_"
        body = _encode({**row.features, name: "ignored"})
        return Action("unknown_field", "POST", "/predict", body, 200, target, row.actual, classes)

    return make


def wrong_method(_row: Row, _rng: Random) -> Action:
    """Request a prediction with GET."""
    return Action("wrong_method", "GET", "/predict", b"", 405)


def _rejected(name: str, spoil: Spoil, status: int = 422) -> Maker:
    """Return the maker of a prediction request whose body is made by `spoil`."""

    def make(row: Row, rng: Random) -> Action:
        return Action(name, "POST", "/predict", spoil(row.features, rng), status)

    return make


def _one_field(name: str, *literals: str) -> Maker:
    """Return the maker of a request in which one field is one of `literals`."""

    def spoil(features: Features, rng: Random) -> bytes:
        return _encode(features, {rng.choice(tuple(features)): rng.choice(literals)})

    return _rejected(name, spoil)


def _wrong_field(name: str, literals: Mapping[str, Sequence[str]]) -> Maker:
    """Return the maker of a request in which one field is one of its own literals."""

    def spoil(features: Features, rng: Random) -> bytes:
        field = rng.choice(tuple(features))
        return _encode(features, {field: rng.choice(literals[field])})

    return _rejected(name, spoil)


def _replaced(name: str, literals: Mapping[str, str]) -> dict[Maker, int]:
    """Return the maker of a request in which one field is its literal, or none without fields."""

    def spoil(features: Features, rng: Random) -> bytes:
        field = rng.choice(tuple(literals))
        return _encode(features, {field: literals[field]})

    return {_rejected(name, spoil): 10} if literals else {}


def _without(names: Sequence[str]) -> dict[Maker, int]:
    """Return the maker of a request without one of these fields, or none without fields."""

    def spoil(features: Features, rng: Random) -> bytes:
        left_out = rng.choice(names)
        return _encode({name: value for name, value in features.items() if name != left_out})

    return {_rejected("missing_field", spoil): 10} if names else {}


def _beyond(limit: float, sign: int, feature: Feature) -> str:
    """Return a number clearly beyond a limit of any magnitude."""
    value = limit + sign * max(1.0, abs(limit))
    return str(int(value) if feature.type == "integer" else value)


def _as_form(features: Features, _rng: Random) -> bytes:
    return urlencode(features).encode()


def _too_large(features: Features, _rng: Random) -> bytes:
    return _encode(features).ljust(TOO_LARGE_BYTES)


def _encode(values: Mapping[str, object], literals: Mapping[str, str] = _NO_LITERALS) -> bytes:
    """Return a JSON object, with some values replaced by `literals`, which need not be JSON."""
    texts = {name: json.dumps(value) for name, value in values.items()} | dict(literals)
    members = (f"{json.dumps(name)}: {text}" for name, text in texts.items())
    return f"{{{', '.join(members)}}}".encode()


def steady(manifest: Manifest) -> Mix:
    """Return the mix of production: valid requests, and a share that no alert minds is rejected."""
    bad = {each.name: (bad_literal(each),) for each in manifest.features}
    ask = predict(manifest.target, manifest.classes)
    return {ask: 50, health: 5, _wrong_field("bad_value", bad): 1}


def malformed(manifest: Manifest) -> Mix:
    """Return everything that the service must reject, and one thing that it must ignore."""
    features = manifest.features
    required = [each.name for each in features if not each.nullable]
    return {
        _rejected("not_json", _as_form): 10,
        _rejected("truncated", lambda features, _rng: _encode(features)[:-1]): 10,
        _rejected("not_utf8", lambda features, _rng: _encode(features)[:-1] + b', "\xff": 1}'): 10,
        _rejected("empty", lambda _features, _rng: b""): 10,
        _rejected("array", lambda features, _rng: b"[" + _encode(features) + b"]"): 10,
        _rejected("scalar", lambda _features, rng: rng.choice((b"null", b"7.4", b'"text"'))): 10,
        _rejected("nested", lambda _features, _rng: b"[" * NESTING): 1,
        **_without(required),
        _wrong_field("wrong_type", {each.name: wrong_literals(each) for each in features}): 10,
        **_replaced("null", dict.fromkeys(required, "null")),
        _one_field("not_finite", "NaN", "Infinity", "-Infinity"): 10,
        # Finite as text, infinite as a double.
        _one_field("overflow", "1e999", "1" + "0" * 400): 10,
        **_replaced(
            "below",
            {e.name: _beyond(e.minimum, -1, e) for e in features if e.minimum is not None},
        ),
        **_replaced(
            "above",
            {e.name: _beyond(e.maximum, 1, e) for e in features if e.maximum is not None},
        ),
        unknown_field(manifest.target, manifest.classes): 10,
        wrong_method: 10,
        _rejected("too_large", _too_large, status=413): 1,
    }


SCENARIOS: dict[str, Callable[[Manifest], Mix]] = {"steady": steady, "malformed": malformed}


def requests_of(mix: Mix, row: Row) -> list[tuple[str, str]]:
    """Return (method, name) of every request in a mix."""
    rng = Random(0)  # noqa: S311 simulation
    return [(action.method, action.name) for action in (make(row, rng) for make in mix)]
