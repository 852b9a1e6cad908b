"""Bundles of classifiers: classes, figures, references of outputs, and calibration."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    roc_auc_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from bundle.build import build_bundle, bundle_fitted
from bundle.checks import Recipe, UnmonitorableError
from bundle.encode import Encoder
from bundle.figures import calibration_error
from bundle.infer import Column, infer
from bundle.load import load_bundle
from bundle.manifest import MISSING, UNSEEN, Manifest, Quantity
from tests.support.tables import TARGET, mixed, pipeline, recipe


def _data(load: Any, rows: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:  # noqa: ANN401
    """Return training and held-out rows of one of scikit-learn's data sets."""
    frame = load(as_frame=True).frame.sample(frac=1, random_state=0)
    frame = frame.iloc[:, [*range(4), -1]]
    rows = rows or len(frame) * 7 // 10
    return frame[:rows], frame[rows:]


def _recipe(frame: pd.DataFrame, target: str = "target") -> Recipe:
    names = [name for name in frame.columns if name != target]
    return Recipe(
        name="made-up",
        target=Quantity(name=target, description=""),
        features=[infer(Column(name), frame) for name in names],
    )


CANCER = _data(load_breast_cancer)
MODEL = make_pipeline(StandardScaler(), LogisticRegression())


@pytest.fixture(name="cancer", scope="module")
def _cancer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """Return a bundle of a binary classifier that was cross-validated, and its manifest."""
    output = tmp_path_factory.mktemp("cancer") / "bundle"
    return output, build_bundle(MODEL, *CANCER, _recipe(CANCER[0]), output)


def test_the_figures_are_scikit_learns(cancer: tuple[Path, Manifest]) -> None:
    """Each figure of the held-out rows equals scikit-learn's on the very rows."""
    train, held_out = CANCER
    x, y = held_out.drop(columns="target").to_numpy(), held_out["target"].to_numpy()
    fitted = MODEL.fit(train.drop(columns="target").to_numpy(), train["target"])
    p, predicted = fitted.predict_proba(x), fitted.predict(x)
    found = cancer[1].validation

    assert found.accuracy == pytest.approx(accuracy_score(y, predicted), abs=1e-9)
    assert found.macro_f1 == pytest.approx(f1_score(y, predicted, average="macro"), abs=1e-9)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(y, predicted), abs=1e-9)
    assert found.log_loss == pytest.approx(log_loss(y, p), abs=1e-9)
    assert found.brier == pytest.approx(brier_score_loss(y, p[:, 1]), abs=1e-9)
    assert found.auc == pytest.approx(roc_auc_score(y, p[:, 1]), abs=1e-9)
    assert found.rows == len(held_out)
    assert np.isnan(found.mae)


def test_the_promise_is_cross_validated(cancer: tuple[Path, Manifest]) -> None:
    """It is not equal to the held-out figures, and close to them."""
    found = cancer[1].validation

    assert (found.cv_folds, found.in_sample) == (5, False)
    assert found.cv_accuracy == pytest.approx(found.accuracy, abs=0.05)
    assert found.cv_log_loss != found.log_loss


def test_classes_are_bins_of_the_prediction(cancer: tuple[Path, Manifest]) -> None:
    """The outputs are the codes of the classes, in a bin each, and the second one's probability."""
    *_, prediction, score = cancer[1].reference

    assert (prediction.name, score.name) == ("prediction", "score")
    assert (prediction.edges, prediction.is_categorical) == ((1.0,), True)
    assert [(each.bin, each.range) for each in prediction.bins] == [("00", "0"), ("01", "1")]
    assert prediction.rows == score.rows == len(CANCER[0])
    assert (score.is_categorical, score.minimum >= 0, score.maximum <= 1) == (False, True, True)


def test_the_calibrated_confidence_is_the_accuracy(cancer: tuple[Path, Manifest]) -> None:
    """Its mean over the held-out rows is their accuracy, within what so few rows determine."""
    output, manifest = cancer
    codes = CANCER[1].drop(columns="target").to_numpy()
    probabilities = load_bundle(output).model.predict(codes.tolist(), codes)
    assert manifest.calibration is not None
    points = np.array(manifest.calibration.points)

    expected = np.interp(probabilities.max(axis=1), *points.T).mean()
    sigma = np.sqrt(0.1 * 0.9 / len(codes))
    assert expected == pytest.approx(manifest.validation.accuracy, abs=3 * sigma)
    assert (np.diff(points[:, 0]) > 0).all()
    assert (manifest.calibration.method, manifest.calibration.rows) == ("sigmoid", len(CANCER[0]))


def test_an_overconfident_model_is_calibrated(tmp_path: Path) -> None:
    """With many rows the curve is isotonic, and tells confident answers that are wrong."""
    frame = mixed(2500, missing=0)
    frame[TARGET] = frame[TARGET].where(np.random.default_rng(0).random(2500) < 0.8, "no")
    forest = pipeline(RandomForestClassifier(10, random_state=0), impute=False)
    train, held_out = frame[:1000], frame[1000:]
    fitted = forest.fit(train.drop(columns=TARGET), train[TARGET])

    built = bundle_fitted(fitted, train, held_out, recipe(frame), tmp_path / "b")

    assert built.calibration is not None
    confidences, probabilities = zip(*built.calibration.points, strict=True)
    assert built.calibration.method == "isotonic"
    assert [*probabilities] == sorted(probabilities)
    assert confidences[-1] == 1
    assert probabilities[-1] < 0.99


def test_calibration_error_is_that_of_the_paper() -> None:
    """It is Σ over bins of share of rows × |share right − mean confidence|."""
    confidences = np.array([0.91, 0.95, 0.99, 0.55, 0.51, 1.0])
    right = np.array([True, True, False, True, False, True])

    expected = (4 * abs(0.75 - np.mean([0.91, 0.95, 0.99, 1.0])) + 2 * abs(0.5 - 0.53)) / 6
    assert calibration_error(confidences, right) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([0, 1, 2], (0, 1, 2)),
        (["a", "b", "c"], ("a", "b", "c")),
        ([True, False, True], (False, True)),
        ([3, 1, 2], (1, 2, 3)),
    ],
    ids=str,
)
def test_classes_keep_their_type(
    values: list[Any], classes: tuple[Any, ...], tmp_path: Path
) -> None:
    """Whole numbers, text and truth values are answered as they are in the data."""
    train, held_out = _data(load_iris, 100)
    written = dict(enumerate(values))
    frames = [
        each.assign(target=each["target"].map(written))
        for each in (pd.concat([train] * 2), held_out)
    ]
    model = DecisionTreeClassifier(max_depth=2, random_state=0)

    built = build_bundle(model, frames[0], frames[1], _recipe(frames[0]), tmp_path / "b")

    assert built.classes == classes
    assert [*map(type, built.classes)] == [*map(type, classes)]
    read = pd.read_csv(tmp_path / "b" / "reference.csv")
    assert set(read["prediction"]) <= set(read["target"])


def test_the_reference_rows_have_the_probability_of_each_class(tmp_path: Path) -> None:
    """The most probable class is the prediction; a feature of that name is not replaced."""
    train, held_out = (
        each.rename(columns={"sepal width (cm)": "probability_0"}) for each in _data(load_iris, 100)
    )
    model = make_pipeline(StandardScaler(), LogisticRegression())

    build_bundle(model, pd.concat([train] * 3), held_out, _recipe(train), tmp_path / "b")

    rows = pd.read_csv(tmp_path / "b" / "reference.csv")
    assert [*rows.columns[-3:]] == ["prediction", "probability_1", "probability_2"]
    rest = 1 - rows["probability_1"] - rows["probability_2"]
    columns = np.column_stack([rest, rows["probability_1"], rows["probability_2"]])
    assert [*columns.argmax(axis=1)] == [*rows["prediction"]]
    assert rows["probability_0"].between(2, 5).all()


def test_a_classifier_without_probabilities_answers_the_class(tmp_path: Path) -> None:
    """It has neither score, nor calibration, nor figures of probabilities."""
    model = make_pipeline(StandardScaler(), LinearSVC())
    built = build_bundle(model, *CANCER, _recipe(CANCER[0]), tmp_path / "b")
    codes = CANCER[1].drop(columns="target").to_numpy()
    outputs = load_bundle(tmp_path / "b").model.predict(codes.tolist(), codes)

    assert (built.probabilities, built.calibration) == (False, None)
    assert built.reference[-1].name == "prediction"
    assert np.isnan(built.validation.log_loss)
    assert float((outputs == CANCER[1]["target"]).mean()) == built.validation.accuracy


def test_categories_have_a_bin_each(tmp_path: Path) -> None:
    """A bin for each category, one for unseen ones, one for missing ones; booleans are numbers."""
    frame = mixed(500)
    built = build_bundle(
        pipeline(LogisticRegression()), frame[:400], frame[400:], recipe(frame), tmp_path / "b"
    )
    reference = {each.name: each for each in built.reference}
    counts = frame[:400]["c0"].value_counts()

    assert [each.range for each in reference["c0"].bins] == [
        *sorted(counts.index, key=lambda value: (-counts_of(frame)[value], value)),
        UNSEEN,
        MISSING,
    ]
    assert {each.range: each.count for each in reference["c0"].bins} == {
        **counts.to_dict(),
        UNSEEN: 0,
        MISSING: int(frame[:400]["c0"].isna().sum()),
    }
    assert reference["c0"].edges == (1, 2, 3)
    assert [each.bin for each in reference["c0"].bins] == ["00", "01", "02", UNSEEN, MISSING]
    assert reference["flag"].edges == (1,)
    assert built.input.kind == "frame"
    assert (built.features[3].name, built.features[3].type) == ("c0", "category")


def counts_of(frame: pd.DataFrame) -> dict[str, int]:
    """Return how often each category occurs."""
    return Counter(frame["c0"].dropna())


def test_rare_categories_share_a_bin(tmp_path: Path) -> None:
    """The 20th bin holds all categories from the 20th on, and says how many they are."""
    frame = mixed(600, missing=0)
    random = np.random.default_rng(0)
    frame["c1"] = [f"v{number}" for number in np.minimum(random.geometric(0.08, 600), 40)]
    built = build_bundle(
        pipeline(LogisticRegression()), frame[:500], frame[500:], recipe(frame), tmp_path / "b"
    )
    feature = next(each for each in built.features if each.name == "c1")
    reference = next(each for each in built.reference if each.name == "c1")
    number = len(feature.categories)

    assert number > 20
    assert reference.edges == (*range(1, 20), number)
    assert reference.bins[19].range == f"other ({number - 19} categories)"
    assert [each.bin for each in reference.bins[20:]] == [UNSEEN]


def test_importance_ranks_the_features_that_matter(tmp_path: Path) -> None:
    """The label depends on n0 and c0: permuting them costs most."""
    frame = mixed(500)
    built = build_bundle(
        pipeline(LogisticRegression()), frame[:400], frame[400:], recipe(frame), tmp_path / "b"
    )
    ranked = sorted(built.features, key=lambda each: -(each.importance or 0))

    assert {each.name for each in ranked[:2]} == {"n0", "c0"}


def test_the_most_important_features_are_monitored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit, the others are served and have no reference."""
    monkeypatch.setattr("bundle.describe.MAX_MONITORED", 2)
    frame = mixed(500)
    built = build_bundle(
        pipeline(LogisticRegression()), frame[:400], frame[400:], recipe(frame), tmp_path / "b"
    )

    assert {each.name for each in built.monitored} == {"n0", "c0"}
    assert len(built.features) == 6
    assert [each.name for each in built.reference] == ["n0", "c0", "prediction", "score"]


@pytest.mark.parametrize(
    ("train", "held_out", "message"),
    [
        ("no", None, "the target has a single class"),
        (None, "no", "the held-out rows have none of class 'yes'"),
        (None, "other", "the target has the class 'other', which training has not"),
    ],
)
def test_classes_that_cannot_be_told_are_rejected(
    train: str | None, held_out: str | None, message: str, tmp_path: Path
) -> None:
    """Each class must be in the training rows and in the held-out rows, and no other."""
    frame = mixed(500)
    frame[TARGET] = np.where(frame["n0"].fillna(0) > 0, "yes", "no")
    frames = [
        part.assign(**{TARGET: label}) if label else part
        for part, label in ((frame[:400], train), (frame[400:], held_out))
    ]

    with pytest.raises(UnmonitorableError, match=message):
        build_bundle(
            pipeline(LogisticRegression()), frames[0], frames[1], recipe(frames[0]), tmp_path / "b"
        )
    assert not (tmp_path / "b").exists()


def test_a_rare_class_cannot_be_cross_validated(tmp_path: Path) -> None:
    """Each fold needs a row of it; the message says how many there are."""
    frame = mixed(500)
    frame.loc[:2, TARGET] = "rare"
    frame.loc[450, TARGET] = "rare"

    with pytest.raises(UnmonitorableError, match="class 'rare' has 3 training rows"):
        build_bundle(
            pipeline(LogisticRegression()), frame[:400], frame[400:], recipe(frame), tmp_path / "b"
        )


def test_probabilities_that_never_differ_are_left_out(tmp_path: Path) -> None:
    """A full-grown tree is always certain of one of three classes: only the class is answered."""
    frame = mixed(500, classes=3, missing=0)
    built = build_bundle(
        pipeline(DecisionTreeClassifier(random_state=0), impute=False),
        frame[:400],
        frame[400:],
        recipe(frame),
        tmp_path / "b",
    )

    assert (built.probabilities, built.calibration) == (False, None)


@pytest.mark.parametrize("is_compiled", [True, False])
def test_an_estimator_of_a_matrix_with_categories_gets_one(
    is_compiled: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    """Fitted to an array of objects, it is served with one, or compiled; unseen values pass."""
    frame = mixed(500, missing=0)
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = make_column_transformer((encoder, [3, 4]), remainder="passthrough")
    last = DecisionTreeClassifier(max_depth=4) if is_compiled else GaussianNB()
    given = frame.drop(columns=TARGET).to_numpy(dtype=object)
    fitted = make_pipeline(columns, last).fit(given[:400], frame[TARGET][:400])
    built = bundle_fitted(fitted, frame[:400], frame[400:], recipe(frame), tmp_path / "b")

    rows = [*map(tuple, given[400:])]
    rows[0] = (*rows[0][:3], "never seen", *rows[0][4:])
    codes = Encoder(built.features).codes(rows)
    outputs = load_bundle(tmp_path / "b").model.predict(rows, codes)
    assert (built.input.kind, "program.npy" in built.files) == ("matrix", is_compiled)
    np.testing.assert_array_equal(outputs, fitted.predict_proba(np.array(rows, dtype=object)))


def test_boosted_trees_get_text_as_categories(tmp_path: Path) -> None:
    """They take no text: what is text in the table reaches them as a category of pandas."""
    frame = mixed(500)
    model = HistGradientBoostingClassifier(max_iter=3, random_state=0)
    built = build_bundle(model, frame[:400], frame[400:], recipe(frame), tmp_path / "b")

    assert (built.input.kind, built.input.dtypes["c0"]) == ("frame", "category")
    assert "program.npy" in built.files
