"""Bundles: the same data gives the same bytes, and what cannot be monitored is not built."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from bundle.build import MIN_ROWS, build_bundle
from bundle.checks import Recipe, UnmonitorableError
from bundle.load import load_bundle, load_manifest, trained_at
from bundle.manifest import Feature, Manifest, Quantity

RECIPE = Recipe(
    name="made-up",
    target=Quantity(name="y", description="what is predicted"),
    features=(
        Feature(name="a", description="some number"),
        Feature(name="b (%)", description="bounded", minimum=-10, maximum=10),
    ),
)
Break = Callable[[pd.DataFrame], Any]


def frame(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Return a table that a bundle can be built from."""
    random = np.random.default_rng(seed)
    a, b = random.normal(0, 1, rows), random.normal(0, 1, rows)
    return pd.DataFrame({"a": a, "b (%)": b, "y": 2 * a - b + random.normal(0, 0.1, rows)})


def build(directory: Path, train: pd.DataFrame | None = None, recipe: Recipe = RECIPE) -> Manifest:
    """Build a bundle of a linear regression."""
    train = frame() if train is None else train
    return build_bundle(LinearRegression(), train, frame(100, seed=1), recipe, directory)


def without_time(bundle: Path) -> dict[str, bytes]:
    """Return a bundle's files but for the one that says when it was built."""
    return {
        path.name: path.read_bytes() for path in bundle.iterdir() if path.name != "trained_at.txt"
    }


def test_same_data_same_bytes(tmp_path: Path) -> None:
    """Built twice, from copies of the frames: every file is equal but for the time."""
    build(tmp_path / "one")
    build(tmp_path / "two", frame().copy())

    assert without_time(tmp_path / "one") == without_time(tmp_path / "two")


def test_boosted_trees_are_as_reproducible(tmp_path: Path) -> None:
    """Parallel sums would differ in their last bits, and with them the version."""
    estimator = HistGradientBoostingRegressor(max_iter=5, random_state=0)
    versions = {
        build_bundle(estimator, frame(), frame(100, seed=1), RECIPE, tmp_path / str(i)).version
        for i in range(3)
    }

    assert len(versions) == 1


def test_other_data_is_another_version(tmp_path: Path) -> None:
    """The version is a hash of the estimator."""
    assert build(tmp_path / "1").version != build(tmp_path / "2", frame(seed=2)).version


def test_building_does_not_fit_the_callers_estimator(tmp_path: Path) -> None:
    """A clone is fitted: the same estimator object builds the next bundle from scratch."""
    estimator = LinearRegression()
    build_bundle(estimator, frame(), frame(100, seed=1), RECIPE, tmp_path)

    assert not hasattr(estimator, "coef_")


def test_what_was_built_is_what_is_loaded(tmp_path: Path) -> None:
    """Manifest and predictions survive the way through the files."""
    built = build(tmp_path)
    loaded = load_bundle(tmp_path)

    expected = LinearRegression().fit(frame()[["a", "b (%)"]].to_numpy(), frame()["y"])
    rows = frame(50, seed=3)[["a", "b (%)"]].to_numpy()
    assert built == loaded.manifest
    assert expected.predict(rows) == pytest.approx(loaded.estimator.predict(rows), abs=1e-12)


def test_validation_is_of_the_held_out_rows(tmp_path: Path) -> None:
    """MAE and RMSE by hand; the cross-validated ones are near them and not the same."""
    validation = build(tmp_path).validation
    held_out = frame(100, seed=1)

    predictions = load_bundle(tmp_path).estimator.predict(held_out[["a", "b (%)"]].to_numpy())
    errors = predictions - held_out["y"].to_numpy()
    assert validation.mae == pytest.approx(np.abs(errors).mean(), rel=1e-12)
    assert validation.rmse == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-12)
    assert validation.cv_mae == pytest.approx(validation.mae, rel=0.3)
    assert validation.cv_mae != validation.mae
    assert validation.rows == 100


def test_nullable_feature_may_miss_values(tmp_path: Path) -> None:
    """Its missing rows have a bin of their own; in any dtype that pandas has for them."""
    features = (Feature(name="a", description="", nullable=True), RECIPE.features[1])
    recipe = Recipe(name="made-up", target=RECIPE.target, features=features)
    train = frame()
    train.loc[::4, "a"] = None
    estimator = HistGradientBoostingRegressor(max_iter=5)
    for number, column in enumerate((train["a"], train["a"].astype("Float64"))):
        built = build_bundle(
            estimator, train.assign(a=column), frame(100, seed=1), recipe, tmp_path / str(number)
        )

        assert (built.reference[0].bins[-1].bin, built.reference[0].bins[-1].count) == (
            "missing",
            100,
        )


def rows_of(path: Path) -> list[tuple[float, ...]]:
    """Return the rows of a bundle's CSV file."""
    table = pd.read_csv(path)
    assert [*table] == ["a", "b (%)", "y"]
    return [*table.itertuples(index=False, name=None)]


def test_rows_for_the_traffic_are_in_the_bundle(tmp_path: Path) -> None:
    """Held-out and drifted rows, to the last digit, in files whose hashes are listed."""
    held_out, drifted = frame(100, seed=1), frame(30, seed=2) + 0.5
    built = build_bundle(LinearRegression(), frame(), held_out, RECIPE, tmp_path, drifted=drifted)

    assert rows_of(tmp_path / "held_out.csv") == [*held_out.itertuples(index=False, name=None)]
    assert rows_of(tmp_path / "drifted.csv") == [*drifted.itertuples(index=False, name=None)]
    assert {"held_out.csv", "drifted.csv"} < built.files.keys()
    assert load_manifest(tmp_path) == built


def test_drifted_rows_are_optional(tmp_path: Path) -> None:
    """Without them there is no file, nor is one left of an earlier bundle."""
    build_bundle(
        LinearRegression(), frame(), frame(100, seed=1), RECIPE, tmp_path, drifted=frame(30)
    )
    built = build(tmp_path)

    assert "drifted.csv" not in built.files
    assert not (tmp_path / "drifted.csv").exists()


def test_a_bundle_without_rows_for_the_traffic_loads(tmp_path: Path) -> None:
    """One that was built before there were any: the format is the same."""
    build(tmp_path)
    path = tmp_path / "bundle.json"
    manifest = json.loads(path.read_text("utf-8"))
    del manifest["files"]["held_out.csv"]
    path.write_text(json.dumps(manifest), "utf-8")
    (tmp_path / "held_out.csv").unlink()

    assert load_bundle(tmp_path).manifest.format == 1


def test_rows_for_the_traffic_are_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many rows a seeded sample is kept, the same each time."""
    monkeypatch.setattr("bundle.build.TRAFFIC_ROWS", 10)
    for name in ("one", "two"):
        build(tmp_path / name)
    kept = rows_of(tmp_path / "one" / "held_out.csv")

    assert len({*kept}) == 10
    assert {*kept} < {*frame(100, seed=1).itertuples(index=False, name=None)}
    assert kept == rows_of(tmp_path / "two" / "held_out.csv")


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (lambda rows: rows.drop(columns="a"), "drifted.csv: column a is not in the data frame"),
        (lambda rows: rows.drop(columns="y"), "column y is not in the data frame"),
        (lambda rows: rows.assign(a=np.nan), "drifted.csv: feature a: 30 rows have no value"),
        (lambda rows: rows.assign(a=np.inf), "drifted.csv: feature a: an infinite value"),
        (lambda rows: rows.assign(**{"b (%)": 11.0}), r"drifted.csv: .* 11 is above its maximum"),
    ],
)
def test_rejects_rows_that_the_service_would_reject(
    breaks: Break, message: str, tmp_path: Path
) -> None:
    """They would show up as failures of the traffic; nothing is written."""
    drifted = breaks(frame(30, seed=2))
    with pytest.raises(UnmonitorableError, match=message):
        build_bundle(
            LinearRegression(), frame(), frame(100, seed=1), RECIPE, tmp_path / "b", drifted=drifted
        )

    assert not (tmp_path / "b").exists()


def test_integers_and_booleans_are_numbers(tmp_path: Path) -> None:
    """A column need not be float64 to be numeric; a flag is one, however rare."""
    train = frame()
    train["a"] = (np.arange(400) * 7 % 13).astype("int8")
    train["b (%)"] = np.arange(400) % 100 == 0

    assert [len(each.bins) for each in build(tmp_path, train).reference[:2]] == [10, 2]


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (lambda train: train.drop(columns="a"), "column a is not in the data frame"),
        (lambda train: train.drop(columns="y"), "column y is not in the data frame"),
        (lambda train: train.head(MIN_ROWS - 1), "199 training rows: fewer than 200"),
        (lambda train: train.assign(a=3.5), r"a is constant \(3.5\)"),
        (lambda train: train.assign(a="text"), "column a is not numeric: .*text"),
        (lambda train: train.assign(a=["1", "x"] * 200), "column a is not numeric: .*x"),
        (lambda train: train.assign(a=[{}] * 400), "column a is not numeric: .*dict"),
        (
            lambda train: train.assign(a=train["a"].where(train.index % 100 != 0)),
            "feature a: 4 rows have no value",
        ),
        (lambda train: train.assign(a=np.nan), "feature a: 400 rows have no value"),
        (
            lambda train: train.assign(a=train["a"].where(train.index != 7, -np.inf)),
            "feature a: an infinite value",
        ),
        (
            lambda train: train.assign(**{"b (%)": train["a"] * 20}),
            r"feature b \(%\): -.* is below",
        ),
        (lambda train: train.assign(**{"b (%)": train["a"] ** 4}), r"feature b \(%\): .* is above"),
        (
            lambda train: train.assign(y=train["y"].where(train.index != 7)),
            "the target has rows without a finite value",
        ),
        (lambda train: train.assign(y=1.0), "prediction is constant"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_data_that_cannot_be_monitored(breaks: Break, message: str, tmp_path: Path) -> None:
    """The message says which column and why; nothing is written."""
    with pytest.raises(UnmonitorableError, match=message):
        build(tmp_path / "bundle", breaks(frame()))

    assert not (tmp_path / "bundle").exists()


def test_enough_rows_are_enough(tmp_path: Path) -> None:
    """200 rows build."""
    assert build(tmp_path, frame(MIN_ROWS)).rows == MIN_ROWS


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "prediction"), "a feature is called prediction"),
        (("a", "a"), "two features have one name"),
        (("a", "_body"), "a feature is called _body"),
        (("_other", "a"), "a feature is called _other"),
    ],
)
def test_refuses_names_that_would_be_confused(
    names: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    """The prediction is monitored under this name; a name stands for one column."""
    features = [Feature(name=name, description="") for name in names]
    train = frame().assign(prediction=frame()["a"])

    with pytest.raises(UnmonitorableError, match=message):
        build(tmp_path, train, Recipe(name="made-up", target=RECIPE.target, features=features))


def test_refuses_a_target_that_answers_could_not_hold(tmp_path: Path) -> None:
    """An answer has the id and the version beside the target."""
    target = Quantity(name="model_version", description="")

    with pytest.raises(UnmonitorableError, match="the target is called model_version"):
        build(tmp_path, None, Recipe(name="x", target=target, features=RECIPE.features))


def test_a_feature_without_an_example_is_given_one(tmp_path: Path) -> None:
    """One of the values it has in training; an example that is given stays."""
    features = (
        Feature(name="a", description=""),
        Feature(name="b (%)", description="", example=12.5),
    )
    built = build(tmp_path, None, Recipe(name="x", target=RECIPE.target, features=features))

    assert built.features[0].example in set(frame()["a"])
    assert built.features[1].example == 12.5


@pytest.mark.parametrize("name", ["", 'a"b', "a\\b", "a\nb", "a\0b", "x" * 101])
def test_refuses_names_that_no_decoder_takes(name: str) -> None:
    """They would be refused by a worker when it starts: too late."""
    with pytest.raises(ValidationError):
        Feature(name=name, description="")


def test_the_time_of_the_build_is_beside_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UTC; SOURCE_DATE_EPOCH makes it reproducible; without the file it is unknown."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    build(tmp_path)

    assert trained_at(tmp_path) == "2001-09-09T01:46:40Z"
    assert trained_at(tmp_path / "nowhere") == "unknown"


def test_a_bundle_is_replaced_whole(tmp_path: Path) -> None:
    """Building into the directory of an older bundle leaves one that loads."""
    build(tmp_path, frame(seed=2))
    built = build(tmp_path)

    assert load_manifest(tmp_path) == built


def test_the_manifest_is_json_for_everybody(tmp_path: Path) -> None:
    """UTF-8, no NaN, a line feed at the end."""
    build(tmp_path)
    text = (tmp_path / "bundle.json").read_text("utf-8")

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} in bundle.json")

    json.loads(text, parse_constant=refuse)
    assert text.endswith("}\n")
