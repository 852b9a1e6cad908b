"""Labels of a classification: what is counted gives scikit-learn's figures on the same rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from bundle.arrays import Floats
from bundle.figures import calibration_error
from bundle.manifest import Value
from serving.classified import Packer, fingerprint
from serving.feedback import Feedback, create_truths
from serving.metrics.feedback import SCORE_EDGES
from serving.prediction_id import Signer
from tests.support.bundles import make_classification, make_manifest, read_metrics
from tests.support.model import Samples, by_label, select, total

KEY = b"k" * 32
NOW = 1_800_000_000.0
VERSION = "0123456789ab"


class Receiver:
    """The feedback of one worker to a classification of these classes."""

    def __init__(
        self, directory: Path, classes: tuple[Value, ...], *, probabilities: bool = True
    ) -> None:
        self.classes = classes
        self.directory = directory
        manifest = make_classification(classes, probabilities=probabilities)
        self.signer = Signer([KEY], manifest.name, VERSION)
        self.feedback = Feedback(create_truths(manifest, directory), self.signer, 1e9)
        self._packer = Packer(classes, self.signer.room)

    def id_of(self, outputs: Floats, *, version: str = VERSION) -> str:
        """Return the id of a prediction with probabilities (classes,)."""
        (content,) = self._packer.pack(np.array([outputs.argmax()]), outputs[None])
        return Signer([KEY], "made-up", version).sign_class(content, NOW)

    def send(self, outputs: Floats, actual: object) -> str | None:
        """Return why a label of a prediction is rejected, or None."""
        item = {"prediction_id": self.id_of(outputs), "actual": actual}
        rejection = self.feedback.accept(item, NOW + 60)
        return rejection and rejection.reason

    def samples(self) -> Samples:
        """Return the samples of a scrape."""
        return read_metrics(self.directory)


def labelled(classes: int, rows: int, seed: int = 0) -> tuple[Floats, Any]:
    """Return probabilities (rows, classes) and codes of true classes that follow them."""
    random = np.random.default_rng(seed)
    outputs = random.dirichlet(np.full(classes, 0.5), rows)
    return outputs, np.array([random.choice(classes, p=each) for each in outputs])


@pytest.mark.parametrize("classes", [("no", "yes"), (False, True), (0, 1), ("a", "b", "c")])
def test_counts_give_scikit_learns_figures(tmp_path: Path, classes: tuple[Value, ...]) -> None:
    """Accuracy, log loss and Brier score; the confusion matrix, and precision and recall."""
    worker = Receiver(tmp_path, classes)
    outputs, truth = labelled(len(classes), 800)
    predicted = outputs.argmax(axis=1)
    for each, code in zip(outputs, truth, strict=True):
        assert worker.send(each, classes[code]) is None
    samples = worker.samples()

    assert total(samples, "model_feedback_total") == 800
    right = total(samples, "model_feedback_class_total", outcome="true_positive")
    assert right == (predicted == truth).sum()
    log_loss = total(samples, "model_feedback_log_loss_sum_total") / 800
    assert log_loss == pytest.approx(metrics.log_loss(truth, outputs), abs=1e-9)
    brier = total(samples, "model_feedback_brier_sum_total") / 800
    score = outputs[:, 1] if len(classes) == 2 else outputs
    assert brier == pytest.approx(metrics.brier_score_loss(truth, score), abs=1e-9)
    confusion = metrics.confusion_matrix(truth, predicted)
    names = [json.dumps(each).strip('"') for each in classes]
    for actual, row in zip(names, confusion, strict=True):
        for predicted_as, count in zip(names, row, strict=True):
            labels = {"predicted": predicted_as, "actual": actual}
            assert total(samples, "model_feedback_confusion_total", **labels) == count
        outcomes = by_label(
            samples, "model_feedback_class_total", "outcome", age="1h", **{"class": actual}
        )
        place = names.index(actual)
        assert outcomes["true_positive"] == confusion[place, place]
        assert outcomes["false_negative"] == row.sum() - confusion[place, place]
        assert outcomes["false_positive"] == confusion[:, place].sum() - confusion[place, place]


def test_bins_give_scikit_learns_area_within_their_error(tmp_path: Path) -> None:
    """Of two classes: half of the pairs within a bin is the most that can be wrong."""
    worker = Receiver(tmp_path, ("no", "yes"))
    outputs, truth = labelled(2, 1000, seed=1)
    for each, code in zip(outputs, truth, strict=True):
        worker.send(each, worker.classes[code])
    samples = worker.samples()
    name = "model_feedback_score_bin_total"
    positive = by_label(samples, name, "bin", outcome="true", age="1h")
    negative = by_label(samples, name, "bin", outcome="false", age="1h")
    above = by_label(samples, "model_feedback_score_above_total", "bin")

    scores = outputs[:, 1]
    at = np.searchsorted(SCORE_EDGES, scores, side="right")
    for bin_, count in positive.items():
        assert count == ((at == int(bin_)) & (truth == 1)).sum()
        assert negative[bin_] == ((at == int(bin_)) & (truth == 0)).sum()
        assert above[bin_] == ((at > int(bin_)) & (truth == 1)).sum()
    pairs = sum(positive.values()) * sum(negative.values())
    area = sum(negative[b] * (above[b] + positive[b] / 2) for b in positive) / pairs
    error = sum(negative[b] * positive[b] for b in positive) / 2 / pairs
    exact = metrics.roc_auc_score(truth, scores)
    assert abs(area - exact) <= error < 0.02


@pytest.mark.parametrize("classes", [("no", "yes"), ("a", "b", "c")])
def test_bins_give_the_calibration_error_of_the_promise(
    tmp_path: Path, classes: tuple[Value, ...]
) -> None:
    """By the probability of the predicted class, as the bundle's figures have it."""
    worker = Receiver(tmp_path, classes)
    outputs, truth = labelled(len(classes), 500, seed=2)
    for each, code in zip(outputs, truth, strict=True):
        worker.send(each, classes[code])
    samples = worker.samples()
    sums, right = (
        by_label(samples, f"model_feedback_confidence_{name}_total", "bin", age="1h")
        for name in ("sum", "right")
    )

    error = sum(abs(sums[bin_] - right[bin_]) for bin_ in sums) / 500
    exact = calibration_error(outputs.max(axis=1), outputs.argmax(axis=1) == truth)
    assert error == pytest.approx(exact, abs=1e-12)


def test_edges_of_the_score_ascend() -> None:
    """They are distinct, symmetric, and within (0, 1)."""
    edges = np.array(SCORE_EDGES)

    assert (np.diff(edges) > 0).all()
    assert edges + edges[::-1] == pytest.approx(1)
    assert 0 < edges.min() < edges.max() < 1


@pytest.mark.parametrize(("number", "confusion"), [(20, 400), (21, 0)])
def test_the_confusion_of_many_classes_is_not_exported(
    tmp_path: Path, number: int, confusion: int
) -> None:
    """Right and wrong by class are; every series is there at 0."""
    worker = Receiver(tmp_path, tuple(range(number)))
    samples = worker.samples()

    assert len(select(samples, "model_feedback_confusion_total", age="7d")) == confusion
    assert len(select(samples, "model_feedback_class_total", age="7d")) == 3 * number
    assert set(samples.values()) == {0}


def test_without_probabilities_there_is_no_score(tmp_path: Path) -> None:
    """Neither a loss nor a bin of the score, and the class counts all the same."""
    worker = Receiver(tmp_path, ("a", "b", "c"), probabilities=False)
    (content,) = Packer(worker.classes, worker.signer.room).pack(np.array([2]), None)
    item = {"prediction_id": worker.signer.sign_class(content, NOW), "actual": "c"}
    assert worker.feedback.accept(item, NOW) is None
    samples = worker.samples()

    assert not any("log_loss" in name or "score" in name for name, _ in samples)
    assert total(samples, "model_feedback_class_total", outcome="true_positive") == 1


@pytest.mark.parametrize("probabilities", [True, False])
def test_a_classification_has_none_of_a_regressions_series(
    tmp_path: Path,
    probabilities: bool,  # noqa: FBT001
) -> None:
    """And the reverse: an alert of one never sees the other."""
    (tmp_path / "classes").mkdir()
    (tmp_path / "numbers").mkdir()
    Receiver(tmp_path / "classes", ("a", "b"), probabilities=probabilities)
    create_truths(make_manifest(), tmp_path / "numbers")
    of_classes = {name for name, _ in read_metrics(tmp_path / "classes")}
    of_numbers = {name for name, _ in read_metrics(tmp_path / "numbers")}

    assert of_classes & of_numbers == {
        "model_feedback_total",
        "model_feedback_delay_seconds_sum_total",
        "model_feedback_bin_total",
        "model_feedback_rejected_total",
    }


@pytest.mark.parametrize(
    ("classes", "actual", "reason"),
    [
        (("a", "b"), "c", "malformed"),
        (("a", "b"), 1, "malformed"),
        (("a", "b"), None, "malformed"),
        (("a", "b"), ["a"], "malformed"),
        ((0, 1), True, "malformed"),
        ((False, True), 1, "malformed"),
        ((0, 1), "1", "malformed"),
        ((0, 1), 1.0, None),
        ((0, 1), 1, None),
        ((False, True), True, None),
    ],
)
def test_a_label_is_one_of_the_classes(
    tmp_path: Path, classes: tuple[Value, ...], actual: object, reason: str | None
) -> None:
    """In the type that the bundle's classes have; 1 and 1.0 are one number."""
    assert Receiver(tmp_path, classes).send(np.array([0.4, 0.6]), actual) == reason


def test_an_id_of_other_classes_or_of_another_task_is_unknown(tmp_path: Path) -> None:
    """Its code would be an index into another list."""
    worker = Receiver(tmp_path, ("a", "b"))
    (tmp_path / "other").mkdir()
    other = Receiver(tmp_path / "other", ("a", "c"))
    outputs = np.array([0.4, 0.6])
    for id_, message in (
        (other.id_of(outputs), "`prediction_id` is of a version with other classes"),
        (worker.signer.sign(5.5, NOW), "`prediction_id` is of a version with another task"),
    ):
        rejection = worker.feedback.accept({"prediction_id": id_, "actual": "a"}, NOW)
        assert rejection == ("unknown", message)

    (tmp_path / "numbers").mkdir()
    numbers = Feedback(create_truths(make_manifest(), tmp_path / "numbers"), worker.signer, 1e9)
    rejection = numbers.accept({"prediction_id": worker.id_of(outputs), "actual": 5}, NOW)
    assert rejection == ("unknown", "`prediction_id` is of a version with another task")


@pytest.mark.parametrize(("number", "code"), [(4, 1), (4, 3), (None, 3)])
def test_a_fingerprint_that_two_lists_share_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None, code: int
) -> None:
    """Neither a code beyond the classes nor another number of probabilities is counted."""
    worker = Receiver(tmp_path, ("a", "b", "c"))
    monkeypatch.setattr("serving.classified.fingerprint", lambda _: fingerprint(worker.classes))
    packer = Packer(range(number or 4), worker.signer.room)
    outputs = None if number is None else np.eye(number)[[code]]
    (content,) = packer.pack(np.array([code]), outputs)
    item = {"prediction_id": worker.signer.sign_class(content, NOW), "actual": "a"}

    rejection = worker.feedback.accept(item, NOW)
    assert rejection == ("unknown", "`prediction_id` is of a version with other classes")


def test_a_label_of_another_version_counts_for_that_version(tmp_path: Path) -> None:
    """If its classes are the same; the bins of its predictions are unknown."""
    worker = Receiver(tmp_path, ("a", "b", "c"))
    id_ = worker.id_of(np.array([0.2, 0.3, 0.5]), version="older")
    assert worker.feedback.accept({"prediction_id": id_, "actual": "b"}, NOW) is None
    worker.send(np.array([0.2, 0.3, 0.5]), "c")
    samples = worker.samples()

    confused = {"predicted": "c", "actual": "b", "version": "older"}
    assert total(samples, "model_feedback_confusion_total", **confused) == 1
    assert total(samples, "model_feedback_total", version="older") == 1
    assert total(samples, "model_feedback_total", version=VERSION) == 1
    assert select(samples, "model_feedback_bin_total", version="older") == {}
    assert total(samples, "model_feedback_bin_total", version=VERSION, bin="02") == 1
