"""The vendored wines, their split, and the model that is trained on them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bundle.manifest import PREDICTION, Manifest
from tests.support import example as support
from wine_quality.data import TARGET, Row, rows, split
from wine_quality.train import RECIPE, train

RED = rows("red")
TRAIN, HELD_OUT = split(RED)


def features(row: Row) -> tuple[float, ...]:
    """Return a row without its target."""
    return tuple(value for name, value in row.items() if name != TARGET)


@pytest.mark.parametrize(("color", "count"), [("red", 1599), ("white", 4898)])
def test_all_wines_are_present(color: str, count: int) -> None:
    """The numbers are those of the paper; each wine has 11 finite features and a grade."""
    wines = rows("red" if color == "red" else "white")

    assert len(wines) == count
    assert {tuple(row) for row in wines} == {(*(each.name for each in RECIPE.features), TARGET)}
    assert np.isfinite([list(row.values()) for row in wines]).all()
    assert {row[TARGET] for row in wines} <= set(range(11))


def test_the_first_red_wine_equals_the_papers() -> None:
    """Each column holds what its name says."""
    assert list(RED[0].values()) == [7.4, 0.7, 0, 1.9, 0.076, 11, 34, 0.9978, 3.51, 0.56, 9.4, 5]


def test_the_split_loses_no_row() -> None:
    """Each row is in one part, and a fifth of the distinct wines is held out."""
    assert Counter(map(str, RED)) == Counter(map(str, TRAIN)) + Counter(map(str, HELD_OUT))
    distinct = {features(row) for row in RED}
    held_out = {features(row) for row in HELD_OUT}
    assert len(held_out) == round(0.2 * len(distinct))


def test_no_wine_is_in_both_parts() -> None:
    """Duplicates of a held-out wine are held out too, or the held-out error would be too low."""
    assert not {features(row) for row in TRAIN} & {features(row) for row in HELD_OUT}


def test_the_split_is_reproducible() -> None:
    """It does not depend on the order of the file."""
    train_again, held_out_again = split(RED[::-1])

    assert train_again[::-1] == TRAIN
    assert held_out_again[::-1] == HELD_OUT


def test_every_feature_is_described() -> None:
    """Each has a unit, a meaning, an example, and a range that includes the white wines."""
    for feature in RECIPE.features:
        assert feature.unit
        assert feature.description
        assert feature.minimum is not None
        assert isinstance(feature.example, float)
        for row in (*RED, *rows("white"), {feature.name: feature.example}):
            assert feature.minimum <= row[feature.name] <= (feature.maximum or np.inf)


def test_the_model_is_better_than_the_mean_grade(example: Manifest) -> None:
    """The errors on held-out rows and in cross-validation agree."""
    grades = np.array([row[TARGET] for row in TRAIN])
    naive = np.abs(np.array([row[TARGET] for row in HELD_OUT]) - grades.mean()).mean()

    assert example.validation.mae < 0.8 * naive
    assert example.validation.mae == pytest.approx(example.validation.cv_mae, rel=0.1)
    assert example.validation.rmse == pytest.approx(example.validation.cv_rmse, rel=0.1)
    assert (example.rows, example.validation.rows) == (len(TRAIN), len(HELD_OUT))


def test_the_reference_has_only_training_rows(example: Manifest) -> None:
    """The counts of all bins are those of the training rows."""
    for reference in example.reference:
        if reference.name != PREDICTION:
            values = [row[reference.name] for row in TRAIN]
            counts = np.histogram(values, [-np.inf, *reference.edges, np.inf])[0]

            assert counts.tolist() == [each.count for each in reference.bins]


def test_the_bundle_has_the_rows_of_the_traffic(example_bundle: Path) -> None:
    """They are all held-out wines, and all white wines as drifted rows."""
    assert support.held_out_rows(example_bundle) == HELD_OUT
    assert support.drifted_rows(example_bundle) == rows("white")


def test_the_target_of_the_tests_is_that_of_the_example(example: Manifest) -> None:
    """The constant in tests/support equals the bundle's target."""
    assert support.TARGET == example.target.name == TARGET


def test_training_again_gives_the_same_bytes(example_bundle: Path, tmp_path: Path) -> None:
    """Every file is equal except the one with the time of the build."""
    train(tmp_path)

    for path in example_bundle.iterdir():
        if path.name != "trained_at.txt":
            assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_the_example_has_twelve_signals_of_at_most_ten_bins(example: Manifest) -> None:
    """The cost of series and rules is estimated for 11 features and the prediction."""
    assert len(example.reference) == 12
    assert example.reference[-1].name == PREDICTION
    assert all(2 <= len(each.bins) <= 10 for each in example.reference)
