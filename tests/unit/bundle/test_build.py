"""Bundles are reproducible, and data that cannot be monitored is rejected."""

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

from bundle.build import build_bundle
from bundle.checks import Recipe, UnmonitorableError
from bundle.load import load_bundle, load_manifest, trained_at
from bundle.manifest import Feature, Manifest, Quantity
from bundle.prepare import MIN_ROWS

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
    """Return a data frame that a bundle can be built from."""
    random = np.random.default_rng(seed)
    a, b = random.normal(0, 1, rows), random.normal(0, 1, rows)
    return pd.DataFrame({"a": a, "b (%)": b, "y": 2 * a - b + random.normal(0, 0.1, rows)})


def build(directory: Path, train: pd.DataFrame | None = None, recipe: Recipe = RECIPE) -> Manifest:
    """Build a bundle of a linear regression."""
    train = frame() if train is None else train
    return build_bundle(LinearRegression(), train, frame(100, seed=1), recipe, directory)


def without_time(bundle: Path) -> dict[str, bytes]:
    """Return a bundle's files except the one with the time of the build."""
    return {
        path.name: path.read_bytes() for path in bundle.iterdir() if path.name != "trained_at.txt"
    }


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two builds from copies of the frames differ only in the time of the build."""
    build(tmp_path / "one")
    build(tmp_path / "two", frame().copy())

    assert without_time(tmp_path / "one") == without_time(tmp_path / "two")


def test_boosted_trees_are_reproducible(tmp_path: Path) -> None:
    """Parallel sums would differ in their last bits, and with them the version."""
    estimator = HistGradientBoostingRegressor(max_iter=5, random_state=0)
    versions = {
        build_bundle(estimator, frame(), frame(100, seed=1), RECIPE, tmp_path / str(i)).version
        for i in range(3)
    }

    assert len(versions) == 1


def test_other_data_gives_another_version(tmp_path: Path) -> None:
    """The version is a hash of the estimator."""
    assert build(tmp_path / "1").version != build(tmp_path / "2", frame(seed=2)).version


def test_building_does_not_fit_the_callers_estimator(tmp_path: Path) -> None:
    """A clone is fitted, so the estimator can be used for the next bundle."""
    estimator = LinearRegression()
    build_bundle(estimator, frame(), frame(100, seed=1), RECIPE, tmp_path)

    assert not hasattr(estimator, "coef_")


def test_a_loaded_bundle_equals_the_built_one(tmp_path: Path) -> None:
    """Manifest and predictions are the same after writing and loading."""
    built = build(tmp_path)
    loaded = load_bundle(tmp_path)

    expected = LinearRegression().fit(frame()[["a", "b (%)"]].to_numpy(), frame()["y"])
    rows = frame(50, seed=3)[["a", "b (%)"]].to_numpy()
    assert built == loaded.manifest
    assert expected.predict(rows) == pytest.approx(
        loaded.model.predict(rows.tolist(), rows), abs=1e-12
    )


def test_validation_errors_are_those_of_the_held_out_rows(tmp_path: Path) -> None:
    """MAE and RMSE equal a computation by hand; cross-validated errors are similar, not equal."""
    validation = build(tmp_path).validation
    held_out = frame(100, seed=1)

    rows = held_out[["a", "b (%)"]].to_numpy()
    predictions = load_bundle(tmp_path).model.predict(rows.tolist(), rows)
    errors = predictions - held_out["y"].to_numpy()
    assert validation.mae == pytest.approx(np.abs(errors).mean(), rel=1e-12)
    assert validation.rmse == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-12)
    assert validation.cv_mae == pytest.approx(validation.mae, rel=0.3)
    assert validation.cv_mae != validation.mae
    assert validation.rows == 100


def test_a_nullable_feature_may_have_missing_values(tmp_path: Path) -> None:
    """Its missing rows have a bin of their own, for each dtype that pandas has for them."""
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


def test_the_bundle_has_rows_for_the_traffic(tmp_path: Path) -> None:
    """Held-out and drifted rows are in files whose hashes are listed, equal to the last digit."""
    held_out, drifted = frame(100, seed=1), frame(30, seed=2) + 0.5
    built = build_bundle(LinearRegression(), frame(), held_out, RECIPE, tmp_path, drifted=drifted)

    assert rows_of(tmp_path / "held_out.csv") == [*held_out.itertuples(index=False, name=None)]
    assert rows_of(tmp_path / "drifted.csv") == [*drifted.itertuples(index=False, name=None)]
    assert {"held_out.csv", "drifted.csv"} < built.files.keys()
    assert load_manifest(tmp_path) == built


def test_drifted_rows_are_optional(tmp_path: Path) -> None:
    """Without them there is no file, and that of an earlier bundle is removed."""
    build_bundle(
        LinearRegression(), frame(), frame(100, seed=1), RECIPE, tmp_path, drifted=frame(30)
    )
    built = build(tmp_path)

    assert "drifted.csv" not in built.files
    assert not (tmp_path / "drifted.csv").exists()


def test_a_bundle_without_rows_for_the_traffic_loads(tmp_path: Path) -> None:
    """A bundle of an older version has no such rows; its format is the same."""
    build(tmp_path)
    path = tmp_path / "bundle.json"
    manifest = json.loads(path.read_text("utf-8"))
    del manifest["files"]["held_out.csv"]
    path.write_text(json.dumps(manifest), "utf-8")
    (tmp_path / "held_out.csv").unlink()

    assert load_bundle(tmp_path).manifest.format == 2


def test_the_number_of_rows_for_the_traffic_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seeded sample of many rows is kept, which is the same in each build."""
    monkeypatch.setattr("bundle.samples.TRAFFIC_ROWS", 10)
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
def test_traffic_rows_that_the_service_would_reject_are_rejected(
    breaks: Break, message: str, tmp_path: Path
) -> None:
    """They would appear as failures of the traffic; nothing is written."""
    drifted = breaks(frame(30, seed=2))
    with pytest.raises(UnmonitorableError, match=message):
        build_bundle(
            LinearRegression(), frame(), frame(100, seed=1), RECIPE, tmp_path / "b", drifted=drifted
        )

    assert not (tmp_path / "b").exists()


def test_integers_and_booleans_are_numbers(tmp_path: Path) -> None:
    """A numeric column need not be float64, and a rarely set flag gets two bins."""
    train = frame()
    train["a"] = (np.arange(400) * 7 % 13).astype("int8")
    train["b (%)"] = np.arange(400) % 100 == 0

    assert [len(each.bins) for each in build(tmp_path, train).reference[:2]] == [10, 2]


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (lambda train: train.drop(columns="a"), "column a is not in the data frame"),
        (lambda train: train.drop(columns="y"), "column y is not in the data frame"),
        (lambda train: train.head(MIN_ROWS - 1), "199 training rows: at least 200"),
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
def test_data_that_cannot_be_monitored_is_rejected(
    breaks: Break, message: str, tmp_path: Path
) -> None:
    """The message names the column and the reason; nothing is written."""
    with pytest.raises(UnmonitorableError, match=message):
        build(tmp_path / "bundle", breaks(frame()))

    assert not (tmp_path / "bundle").exists()


def test_the_minimum_number_of_rows_is_accepted(tmp_path: Path) -> None:
    """A bundle can be built from exactly 200 rows."""
    assert build(tmp_path, frame(MIN_ROWS)).rows == MIN_ROWS


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "prediction"), "a feature is called prediction"),
        (("a", "a"), "two features have the same name"),
        (("a", "_body"), "a feature is called _body"),
        (("_other", "a"), "a feature is called _other"),
    ],
)
def test_an_ambiguous_feature_name_is_rejected(
    names: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    """A name stands for one column and must not be a name that the metrics use otherwise."""
    features = [Feature(name=name, description="") for name in names]
    train = frame().assign(prediction=frame()["a"])

    with pytest.raises(UnmonitorableError, match=message):
        build(tmp_path, train, Recipe(name="made-up", target=RECIPE.target, features=features))


def test_a_target_named_like_a_field_of_answers_is_rejected(tmp_path: Path) -> None:
    """Answers contain the id and the version beside the target."""
    target = Quantity(name="model_version", description="")

    with pytest.raises(UnmonitorableError, match="the target is called model_version"):
        build(tmp_path, None, Recipe(name="x", target=target, features=RECIPE.features))


def test_a_feature_without_an_example_gets_one(tmp_path: Path) -> None:
    """The example is one of its training values; a given example is kept."""
    features = (
        Feature(name="a", description=""),
        Feature(name="b (%)", description="", example=12.5),
    )
    built = build(tmp_path, None, Recipe(name="x", target=RECIPE.target, features=features))

    assert built.features[0].example in set(frame()["a"])
    assert built.features[1].example == 12.5


@pytest.mark.parametrize("name", ["", 'a"b', "a\\b", "a\nb", "a\0b", "x" * 101])
def test_a_name_that_the_decoder_rejects_is_rejected(name: str) -> None:
    """Otherwise a worker would reject it only at its start."""
    with pytest.raises(ValidationError):
        Feature(name=name, description="")


def test_the_time_of_the_build_is_in_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in UTC and follows SOURCE_DATE_EPOCH; without the file it is unknown."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    build(tmp_path)

    assert trained_at(tmp_path) == "2001-09-09T01:46:40Z"
    assert trained_at(tmp_path / "nowhere") == "unknown"


def test_a_bundle_can_be_built_over_an_older_one(tmp_path: Path) -> None:
    """Building into the directory of an older bundle results in one that loads."""
    build(tmp_path, frame(seed=2))
    built = build(tmp_path)

    assert load_manifest(tmp_path) == built


def test_the_manifest_is_standard_json(tmp_path: Path) -> None:
    """It is UTF-8 without NaN and ends with a line feed."""
    build(tmp_path)
    text = (tmp_path / "bundle.json").read_text("utf-8")

    def fail(constant: str) -> None:
        pytest.fail(f"{constant} in bundle.json")

    json.loads(text, parse_constant=fail)
    assert text.endswith("}\n")
