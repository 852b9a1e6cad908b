"""The mixes of requests, judged by the contract."""

import json
from collections import Counter

import pytest

from tests.support.locust import FEATURES, seeded, strict_status
from traffic.client import Client
from traffic.rows import held_out, white
from traffic.scenarios import SCENARIOS, Action, Maker, bad_value, predict, requests_of
from traffic.settings import Settings
from wine_quality.data import TARGET

MALFORMED = dict(
    zip(
        [name for _, name in requests_of(SCENARIOS["malformed"], held_out()[0])],
        SCENARIOS["malformed"],
        strict=True,
    )
)
KINDS = {
    *("not_json", "truncated", "not_utf8", "empty", "array", "scalar", "nested", "missing_field"),
    *("wrong_type", "null", "not_finite", "overflow", "below", "above", "unknown_field"),
    *("wrong_method", "too_large"),
}


def _asked(
    count: int, scenario: str = "steady", *, seed: int = 0, process: int = 0, number: int = 0
) -> list[Action]:
    client = Client(Settings(scenario=scenario, seed=seed), process, number)
    return [client.next(elapsed=0.0) for _ in range(count)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_seed_determines_every_request(scenario: str) -> None:
    """The same client of the same seed asks the same, byte by byte."""
    assert _asked(100, scenario) == _asked(100, scenario)


def test_clients_differ() -> None:
    """Another seed, process or client asks otherwise."""
    asked = _asked(50)

    assert asked != _asked(50, seed=1)
    assert asked != _asked(50, process=1)
    assert asked != _asked(50, number=1)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_mix_is_exact_in_every_round(scenario: str) -> None:
    """Each round of a mix holds every request exactly as often as its weight says."""
    mix = SCENARIOS[scenario]
    names = [name for _, name in requests_of(mix, held_out()[0])]
    size = sum(mix.values())
    asked = [action.name for action in _asked(3 * size, scenario)]

    for start in range(0, 3 * size, size):
        expected = Counter(dict(zip(names, mix.values(), strict=True)))
        assert expected == Counter(asked[start : start + size])


def test_steady_mix_is_ten_to_one_to_two() -> None:
    """The production mix: 10 predictions, 1 health check, 2 bad values."""
    counts = Counter(action.name for action in _asked(13))

    assert counts == {"predict": 10, "health": 1, "bad_value": 2}


def test_names_are_unique_within_a_scenario() -> None:
    """A name stands for one kind of request, as it is a metric's label."""
    for mix in SCENARIOS.values():
        requests = requests_of(mix, held_out()[0])
        assert len(set(requests)) == len(requests)


def test_prediction_asks_the_features_and_knows_the_score() -> None:
    """A prediction's body is the row without its score, which is kept as the true value."""
    row = held_out()[0]
    action = predict(row, seeded())

    assert json.loads(action.body) == {name: row[name] for name in FEATURES}
    assert action.actual == row[TARGET]


@pytest.mark.parametrize("color", [held_out(), white()], ids=["red", "white"])
def test_every_wine_is_acceptable(color: list[dict[str, float]]) -> None:
    """No held-out red and no white wine is outside what the service allows."""
    assert {200} == {strict_status(predict(row, seeded()).body) for row in color}


def test_every_kind_of_bad_input_is_there() -> None:
    """The malformed scenario covers the kinds that were thought of."""
    assert MALFORMED.keys() == KINDS


@pytest.mark.parametrize(("name", "make"), MALFORMED.items(), ids=MALFORMED)
def test_malformed_request_expects_what_the_contract_says(name: str, make: Maker) -> None:
    """Twenty variants of each kind are refused by a strict reading, with the status expected."""
    rng = seeded(1)
    actions = [make(row, rng) for row in held_out()[: 2 if name == "too_large" else 20]]
    deserved = {405 if action.method == "GET" else strict_status(action.body) for action in actions}

    assert deserved == {action.status for action in actions}


def test_bad_value_spoils_one_field() -> None:
    """A bad value is text in exactly one field; all others are the wine's."""
    row = held_out()[0]
    sent = json.loads(bad_value(row, seeded(1)).body)

    assert [type(sent[name]) for name in FEATURES if sent[name] != row[name]] == [str]
