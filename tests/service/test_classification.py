"""Classifications on real workers: answers, counts and feedback equal scikit-learn's."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bundle.build import build_bundle
from bundle.checks import Recipe
from bundle.load import load_bundle
from bundle.manifest import ESTIMATOR_FILE, Feature, Quantity
from tests.service.conftest import MINUTE_SECONDS
from tests.support.grades import GRADES, build_grades
from tests.support.model import Model, by_label, running_model, select, total
from tests.support.prometheus import RULES, Prometheus, hurried, running_prometheus
from traffic.manifest import read_manifest
from traffic.rows import load_populations

BATCH = 100


@pytest.fixture(name="cancer", scope="module")
def _cancer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """Return a bundle of breast cancer's two classes, and rows that it was not fitted to."""
    loaded = load_breast_cancer(as_frame=True)
    frame = loaded.frame.sample(frac=1, random_state=0)
    frame["target"] = frame["target"].map({0: "malignant", 1: "benign"})
    recipe = Recipe(
        name="cancer",
        target=Quantity(name="target", description="diagnosis"),
        features=[Feature(name=name, description=name) for name in loaded.feature_names],
    )
    output = tmp_path_factory.mktemp("cancer") / "bundle"
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    build_bundle(estimator, frame[:300], frame[300:], recipe, output)
    return output, frame[300:]


@pytest.fixture(name="cancer_model", scope="module")
def _cancer_model(
    cancer: tuple[Path, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    with running_model(cancer[0], tmp_path_factory.mktemp("model")) as model:
        yield model


@pytest.fixture(name="prometheus", scope="module")
def _prometheus(
    cancer_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    rules = hurried(RULES, directory / "rules", MINUTE_SECONDS)
    targets = {"model": [cancer_model.metrics_url]}
    with running_prometheus(directory, targets, rules) as prometheus:
        yield prometheus


def predict(model: Model, rows: Sequence[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """Return the answers to rows, each batch on a connection of its own."""
    answers: list[dict[str, Any]] = []
    for start in range(0, len(rows), BATCH):
        instances = {"instances": rows[start : start + BATCH]}
        answer = httpx.post(f"{model.url}/predict/batch", json=instances, timeout=60)
        answers += answer.raise_for_status().json()["predictions"]
    return answers


def test_live_figures_are_scikit_learns(
    cancer: tuple[Path, pd.DataFrame], cancer_model: Model, prometheus: Prometheus
) -> None:
    """Accuracy, log loss and Brier score to 1e-9 on the very rows, the area within its error."""
    bundle, frame = cancer
    rows = frame.drop(columns="target")
    answers = predict(cancer_model, rows.to_dict("records"))
    truth = frame["target"].to_list()
    labels = [
        {"prediction_id": answer["prediction_id"], "actual": actual}
        for answer, actual in zip(answers, truth, strict=True)
    ]
    accepted = httpx.post(f"{cancer_model.url}/feedback", json=labels, timeout=60).json()
    assert (accepted["accepted"], accepted["rejected"]) == (len(rows), 0)

    manifest = load_bundle(bundle).manifest
    assert manifest.classes == ("benign", "malignant")
    outputs = np.array([[each["probabilities"][c] for c in manifest.classes] for each in answers])
    predicted = [answer["target"] for answer in answers]
    is_malignant = np.array(truth) == "malignant"
    expected = {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "log_loss": metrics.log_loss(is_malignant, outputs[:, 1]),
        "brier": metrics.brier_score_loss(is_malignant, outputs[:, 1]),
        "macro_f1": metrics.f1_score(truth, predicted, average="macro"),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
    }

    def recorded(name: str) -> float:
        (value,) = prometheus.by_label(f'model:{name}{{window="1h"}}', "version").values()
        return value

    def are_recorded() -> bool:
        found = prometheus.by_label('model:feedback_rows{window="1h"}', "version")
        headline = prometheus.by_label('model:headline{window="1h"}', "version")
        return [*found.values()] == pytest.approx([len(rows)]) and bool(headline)

    # Each figure has a rule of its own: they follow the rows one after the other.
    def are_equal() -> bool:
        figures = {name: recorded(name) for name in expected}
        return bool(figures == pytest.approx(expected, rel=1e-9))

    def is_within_its_error() -> bool:
        error = recorded("auc_binning_error")
        return bool(abs(recorded("auc") - area) <= error + 1e-12 < 0.005)

    area = metrics.roc_auc_score(is_malignant, outputs[:, 1])
    prometheus.program.until(are_recorded, "every label is recorded")
    prometheus.program.until(are_equal, f"the figures are {expected}")
    prometheus.program.until(is_within_its_error, f"the area is {area}, within its error")
    assert 0.8 < recorded("expected_accuracy") <= 1
    foreign = prometheus.by_label('{__name__=~"model:(mae|rmse|bias)"}', "__name__")
    assert foreign == {}


def test_every_worker_counts_classes_and_scores(
    cancer: tuple[Path, pd.DataFrame], cancer_model: Model
) -> None:
    """All series exist from the start, and the sums over workers are those of the answers."""
    rows = cancer[1].drop(columns="target").head(200).to_dict("records")
    before = cancer_model.scrape()
    answers = predict(cancer_model, rows)
    after = cancer_model.scrape()

    assert before.keys() == after.keys()
    counted = by_label(after, "model_prediction_class_total", "class")
    earlier = by_label(before, "model_prediction_class_total", "class")
    classes = Counter(answer["target"] for answer in answers)
    assert {name: counted[name] - earlier[name] for name in counted} == classes
    scores = [answer["probabilities"]["malignant"] for answer in answers]
    name = "model_prediction_score_sum"
    assert total(after, name) - total(before, name) == pytest.approx(sum(scores))
    assert select(after, "model_validation_error", statistic="cv_accuracy")
    assert select(after, "model_headline", statistic="accuracy")


@pytest.fixture(name="mixed", scope="module")
def _mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    output = tmp_path_factory.mktemp("grades") / "bundle"
    features = [
        each.model_copy(update={"segment": each.name == "purpose"}) for each in GRADES.features
    ]
    return output, build_grades(output, replace(GRADES, features=features))


@pytest.fixture(name="mixed_model", scope="module")
def _mixed_model(
    mixed: tuple[Path, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    with running_model(mixed[0], tmp_path_factory.mktemp("mixed")) as model:
        yield model


def test_rows_of_the_traffic_are_predicted_as_by_the_pipeline(
    mixed: tuple[Path, pd.DataFrame], mixed_model: Model
) -> None:
    """Rows with gaps and categories, read from the bundle, over HTTP; classes stay integers."""
    bundle, frame = mixed
    usual = load_populations("held_out", read_manifest(bundle)).usual
    answers = predict(mixed_model, [dict(row.features) for row in usual])
    pipeline = joblib.load(bundle / ESTIMATOR_FILE)
    inputs = frame.drop(columns="grade")
    probabilities = np.array(
        [[each["probabilities"][name] for name in ("1", "2", "3")] for each in answers]
    )

    assert {type(answer["grade"]) for answer in answers} == {int}
    assert probabilities == pytest.approx(pipeline.predict_proba(inputs), abs=1e-12)
    assert [answer["grade"] for answer in answers] == pipeline.predict(inputs).tolist()


def test_labels_are_counted_by_segment_on_every_worker(
    mixed: tuple[Path, pd.DataFrame], mixed_model: Model
) -> None:
    """Whichever worker predicts and whichever receives the label; each value has its promise."""
    usual = [*load_populations("held_out", read_manifest(mixed[0])).usual]
    answers = predict(mixed_model, [dict(row.features) for row in usual])
    wrong: Counter[str] = Counter()
    for answer, row in zip(answers, usual, strict=True):
        label = {"prediction_id": answer["prediction_id"], "actual": row.actual}
        httpx.post(f"{mixed_model.url}/feedback", json=label).raise_for_status()
        wrong[str(row.features["purpose"])] += answer["grade"] != row.actual
    samples = mixed_model.scrape()

    purposes = Counter(str(row.features["purpose"]) for row in usual)
    bins = {"car": "00", "home": "01", "trip": "02", "None": "missing"}
    for name, expected in (("", purposes), ("_wrong", wrong)):
        family = f"model_feedback_segment{name}_total"
        counted = by_label(samples, family, "bin", feature="purpose")
        assert counted == {"unseen": 0, **{bins[each]: expected[each] for each in bins}}
    assert select(samples, "model_segment_validation_error", feature="purpose", value="trip")


def test_unseen_and_missing_categories_are_counted(mixed_model: Model) -> None:
    """An unseen one passes or is rejected, as the bundle says."""
    good = {"amount": 100, "purpose": "car", "rating": 2, "member": True}
    before = by_label(mixed_model.scrape(), "model_feature_bin_total", "bin", feature="purpose")
    for purpose in ("boat", None, "trip"):
        answer = httpx.post(f"{mixed_model.url}/predict", json=good | {"purpose": purpose})
        assert answer.status_code == 200, answer.text
        assert [*answer.json()] == ["grade", "probabilities", "prediction_id", "model_version"]
    rejected = httpx.post(f"{mixed_model.url}/predict", json=good | {"rating": 9})
    after = mixed_model.scrape()
    bins = by_label(after, "model_feature_bin_total", "bin", feature="purpose")

    assert {key: bins[key] - before[key] for key in bins if bins[key] > before[key]} == {
        "unseen": 1,
        "missing": 1,
        "02": 1,
    }
    assert rejected.status_code == 422
    fault = {"field": "rating", "reason": "not_allowed"}
    assert total(after, "model_input_rejected_total", **fault) == 1


def test_the_model_is_described_by_its_task(mixed_model: Model) -> None:
    """Classes, categories and the promise of a classification; nothing of a regression."""
    model = httpx.get(mixed_model.url).json()

    assert (model["task"], model["headline"]) == ("classification", "accuracy")
    assert model["target"]["classes"] == [1, 2, 3]
    assert model["features"][1]["categories"] == ["car", "home", "trip"]
    assert 0.4 < model["validation"]["accuracy"] < 1
    assert not {"mae", "rmse", "auc"} & set(model["validation"])


def test_the_documentations_examples_are_accepted(mixed_model: Model) -> None:
    """Every example of a request is answered as its example of a response."""
    paths = httpx.get(f"{mixed_model.url}/openapi.json").json()["paths"]
    for path in ("/predict", "/predict/batch", "/v2/models/grades/infer", "/invocations"):
        documented = paths[path.replace("grades", "{name}")]["post"]
        content = documented["requestBody"]["content"]["application/json"]
        for example in content["examples"].values():
            answer = httpx.post(f"{mixed_model.url}{path}", json=example["value"])
            assert answer.status_code == 200, (path, answer.text)
