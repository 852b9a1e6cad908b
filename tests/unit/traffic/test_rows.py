"""The supply of rows: from the bundle, from a CSV file, or shifted."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tests.support.locust import MANIFEST, made_up_rows, seeded
from traffic.drift import Drift
from traffic.errors import TrafficError
from traffic.manifest import Feature, Manifest, read_manifest
from traffic.rows import (
    SOURCES,
    Populations,
    Row,
    Supply,
    load_populations,
    read_rows,
    shifted,
    shuffled,
)
from traffic.values import Value

HEADER = "plain,share (%),count,maybe,score"


def _key(row: Row) -> tuple[Value, ...]:
    return tuple(row.features.values())


def _draw(populations: Populations, count: int, mode: str, age: float = 0.0) -> list[Row]:
    times = iter([0.0])
    drift = Drift(mode, 100.0, clock=lambda: next(times, age))
    supply = Supply(populations, drift, seeded(1))
    return [supply.next() for _ in range(count)]


@pytest.fixture(name="bundled")
def _bundled(example_bundle: Path) -> Manifest:
    return read_manifest(example_bundle)


@pytest.mark.parametrize("source", SOURCES)
def test_rows_come_from_the_bundle(source: str, bundled: Manifest) -> None:
    """The populations are two files of the bundle, for each initial drift."""
    populations = load_populations(source, bundled)
    directory = bundled.path.parent

    assert populations.usual == read_rows(directory / "held_out.csv", bundled)
    assert populations.drifted == read_rows(directory / "drifted.csv", bundled)
    assert [*populations.usual[0].features] == [each.name for each in bundled.features]
    assert all(row.actual is not None for row in (*populations.usual, *populations.drifted))


def test_no_held_out_row_is_a_training_row(bundled: Manifest, example_bundle: Path) -> None:
    """Traffic of training rows would look better than production."""
    names = ",".join(each.name for each in bundled.features)
    reference = (example_bundle / "reference.csv").read_text().splitlines()
    assert reference[0].startswith(names)
    trained = {
        tuple(map(float, line.split(",")[: len(bundled.features)])) for line in reference[1:]
    }

    assert not trained & set(map(_key, load_populations("held_out", bundled).usual))


@pytest.mark.parametrize(("mode", "chosen"), [("off", "usual"), ("drifted", "drifted")])
def test_a_round_has_every_row_once(mode: str, chosen: str) -> None:
    """Each population is drawn from evenly."""
    populations = Populations(made_up_rows(30), made_up_rows(40, first=100))
    wanted = getattr(populations, chosen)

    drawn = _draw(populations, len(wanted), mode)
    assert Counter(map(_key, wanted)) == Counter(map(_key, drawn))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.75, 1.0])
def test_gradual_drift_has_the_expected_share_of_drifted_rows(share: float) -> None:
    """The number of 4,000 rows is within four standard deviations of the share."""
    populations = Populations(made_up_rows(30), made_up_rows(40, first=100))
    usual = set(map(_key, populations.usual))
    drawn = _draw(populations, 4_000, "gradual", age=100.0 * share)
    drifted = sum(_key(row) not in usual for row in drawn)

    assert abs(drifted - 4_000 * share) <= 4 * (4_000 * share * (1 - share)) ** 0.5


def test_rounds_differ_only_in_their_order() -> None:
    """Each round has every item once, in a new order."""
    endless = shuffled(range(20), seeded(1))
    first, second = list(islice(endless, 20)), list(islice(endless, 20))

    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_any_csv_file_with_the_features_can_be_read(tmp_path: Path) -> None:
    """Columns are in any order; empty cells, a byte order mark and no target are accepted."""
    path = tmp_path / "rows.csv"
    path.write_text("count,plain,maybe,share (%)\r\n7,1.5,,20\r\n8.0,-2,11,0\r\n", "utf-8-sig")

    assert read_rows(path, MANIFEST) == [
        Row({"plain": 1.5, "share (%)": 20.0, "count": 7, "maybe": None}, None),
        Row({"plain": -2.0, "share (%)": 0.0, "count": 8, "maybe": 11.0}, None),
    ]
    bundled = replace(MANIFEST, path=tmp_path / "bundle.json")
    for source in (str(path), "rows.csv"):
        assert load_populations(source, bundled).usual == read_rows(path, MANIFEST)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column count, maybe, plain, share (%)"),
        (HEADER.replace("count", "cuont"), "has no column count"),
        (f"{HEADER},id\n", ": id is neither a feature nor the target of made-up"),
        (HEADER, "has no rows"),
        (f"{HEADER}\n1,2,,4,5", ", line 2: count is empty"),
        (f"{HEADER}\n1,2", ", line 2: count is empty"),
        (f"{HEADER}\n1,2,3,4,5\n1,x,3,4,5", ", line 3: share (%) is 'x', not a number"),
        (f"{HEADER}\ninf,2,3,4,5", ", line 2: plain is 'inf', not a number"),
        (f"{HEADER}\n1,2,3,4,y", ", line 2: score is 'y', not a number"),
        (f'{HEADER}\n1,2,3,4,"y', "is not a CSV file: "),
    ],
)
def test_the_error_of_an_invalid_file_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    """It names file, line and column."""
    path = tmp_path / "rows.csv"
    path.write_text(text)

    with pytest.raises(TrafficError) as error:
        read_rows(path, MANIFEST)
    assert str(error.value).startswith(f"LOCUST_ROWS: {path}")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_error_of_an_unknown_source_is_one_line() -> None:
    """It lists the known sources and the path that was looked for."""
    with pytest.raises(
        TrafficError,
        match=r"^LOCUST_ROWS: 'blue' is none of held_out, drifted, gradual, and blue is no file$",
    ):
        load_populations("blue", MANIFEST)


def test_the_error_of_a_bundle_without_rows_is_one_line() -> None:
    """It suggests a new build or a CSV file."""
    with pytest.raises(TrafficError, match=r"LOCUST_ROWS: bundle.json lists no held_out.csv"):
        load_populations("held_out", MANIFEST)


def test_without_drifted_rows_every_feature_is_shifted(tmp_path: Path) -> None:
    """The shift is one standard deviation, within the range, and integers stay integers."""
    path = tmp_path / "held_out.csv"
    path.write_text(f"{HEADER}\n1,97,3,,5\n1,20,3,10,5\n")
    bundled = replace(MANIFEST, path=tmp_path / "bundle.json", files=frozenset({"held_out.csv"}))
    first, second = load_populations("drifted", bundled).drifted

    assert first == Row({"plain": 3.0, "share (%)": 100, "count": 4, "maybe": None}, 5.0)
    assert second == Row({"plain": 3.0, "share (%)": 25.0, "count": 4, "maybe": 11.0}, 5.0)
    assert isinstance(first.features["count"], int)


def test_integers_of_little_spread_are_shifted_by_one() -> None:
    """A standard deviation that rounds to 0 would cause no drift."""
    feature = Feature("n", type="integer", sigma=0.3)

    assert shifted(Row({"n": 2}, None), [feature]) == Row({"n": 3}, None)
