"""The mixes of requests, compared with the contract of the service."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.locust import MANIFEST, made_up_plan, made_up_rows, seeded, strict_status
from traffic.client import Client
from traffic.manifest import Feature, read_manifest
from traffic.rows import load_populations
from traffic.scenarios import SCENARIOS, Action, malformed, predict, requests_of, steady

ROWS = made_up_rows(20)
MIXES = {name: make(MANIFEST) for name, make in SCENARIOS.items()}
KINDS = {
    *("not_json", "truncated", "not_utf8", "empty", "array", "scalar", "nested", "missing_field"),
    *("wrong_type", "null", "not_finite", "overflow", "below", "above", "unknown_field"),
    *("wrong_method", "too_large"),
}
MAKERS = {name: [*mix] for name, mix in MIXES.items()}


def _asked(
    count: int, scenario: str = "steady", *, seed: int = 0, process: int = 0, number: int = 0
) -> list[Action]:
    client = Client(made_up_plan(scenario=scenario, seed=seed), process, number)
    return [client.next(elapsed=0.0) for _ in range(count)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_seed_determines_every_request(scenario: str) -> None:
    """The same client with the same seed sends the same bytes."""
    assert _asked(100, scenario) == _asked(100, scenario)


def test_clients_send_different_requests() -> None:
    """Requests depend on the seed, the process and the client."""
    asked = _asked(50)

    assert asked != _asked(50, seed=1)
    assert asked != _asked(50, process=1)
    assert asked != _asked(50, number=1)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_round_has_the_exact_mix(scenario: str) -> None:
    """Every request occurs as often as its weight."""
    mix = MIXES[scenario]
    names = [name for _, name in requests_of(mix, ROWS[0])]
    size = sum(mix.values())
    asked = [action.name for action in _asked(3 * size, scenario)]

    for start in range(0, 3 * size, size):
        expected = Counter(dict(zip(names, mix.values(), strict=True)))
        assert expected == Counter(asked[start : start + size])


def test_the_steady_mix_has_few_rejected_rows() -> None:
    """Of 51 rows, 1 is bad: well below the share at which RowsRejected alerts."""
    counts = Counter(action.name for action in _asked(56))

    assert counts == {"predict": 50, "health": 5, "bad_value": 1}


def test_names_are_unique_within_a_scenario() -> None:
    """A name is the label of a metric, so it stands for one kind of request."""
    for mix in MIXES.values():
        requests = requests_of(mix, ROWS[0])
        assert len(set(requests)) == len(requests)


def test_a_prediction_sends_the_features_without_the_true_value() -> None:
    """The action keeps the true value for the label."""
    row = ROWS[0]
    action = predict("score")(row, seeded())

    assert json.loads(action.body) == row.features
    assert (action.target, action.actual) == ("score", row.actual)


def test_every_row_of_the_example_is_accepted(example_bundle: Path) -> None:
    """No row of either population is outside the accepted ranges."""
    manifest = read_manifest(example_bundle)
    populations = load_populations("held_out", manifest)
    ask = predict(manifest.target)

    for rows in (populations.usual, populations.drifted):
        bodies = (ask(row, seeded()).body for row in rows)
        assert {strict_status(body, manifest) for body in bodies} == {200}


def test_the_malformed_mix_has_every_kind_of_invalid_input() -> None:
    """The kinds are exactly those in this file."""
    assert {name for _, name in requests_of(MIXES["malformed"], ROWS[0])} == KINDS


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_each_invalid_request_is_rejected_with_the_expected_status(number: int) -> None:
    """A strict reading rejects twenty variants of each kind."""
    rng = seeded(1)
    make = MAKERS["malformed"][number]
    actions = [make(row, rng) for row in (ROWS[:2] if number == len(KINDS) - 1 else ROWS)]
    deserved = {405 if action.method == "GET" else strict_status(action.body) for action in actions}

    assert deserved == {action.status for action in actions}


def test_invalid_requests_for_the_example_are_rejected_too(example_bundle: Path) -> None:
    """Names and ranges are from the bundle; each kind is tried with one row."""
    manifest = read_manifest(example_bundle)
    [row, *_] = load_populations("held_out", manifest).usual
    for make in malformed(manifest):
        action = make(row, seeded(1))
        expected = 405 if action.method == "GET" else strict_status(action.body, manifest)

        assert (action.name, action.status) == (action.name, expected)


def test_kinds_that_no_field_allows_are_omitted() -> None:
    """They need a range or a required field. The unknown field gets an unused name."""
    features = (Feature("unknown", nullable=True),)
    mix = malformed(replace(MANIFEST, features=features))
    row = ROWS[0]._replace(features={"unknown": 1.0})
    names = {name for _, name in requests_of(mix, row)}
    (unknown,) = (make for make in mix if make(row, seeded()).name == "unknown_field")

    assert names == KINDS - {"below", "above", "missing_field", "null"}
    assert json.loads(unknown(row, seeded()).body).keys() == {"unknown", "unknown_"}


def test_a_bad_value_changes_one_field() -> None:
    """It is text in exactly one field; the other fields are the row's."""
    row = ROWS[0]
    (bad_value,) = (make for make in steady(MANIFEST) if make(row, seeded()).name == "bad_value")
    sent = json.loads(bad_value(row, seeded(1)).body)

    changed = [name for name in row.features if sent[name] != row.features[name]]
    assert [type(sent[name]) for name in changed] == [str]
