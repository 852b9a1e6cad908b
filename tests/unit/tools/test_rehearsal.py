"""`./task rehearse`: files that `./task model` takes, and a comparison that can fail."""

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from bundle.load import load_manifest
from tests.support.machine import free_port
from tools.model.__main__ import main as build_model
from tools.rehearsal.__main__ import main as rehearse
from tools.rehearsal.data import DATA_SETS
from tools.rehearsal.watch import Figure, Labelled, expected


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_files_become_a_bundle(name: str, tmp_path: Path) -> None:
    """Two commands, as a user would give them."""
    assert rehearse(["data", name, str(tmp_path)]) == 0
    arguments = ["--estimator", "model.joblib", "--data", "train.csv", "--held-out", "held_out.csv"]
    files = [each if each.startswith("--") else str(tmp_path / each) for each in arguments]
    assert build_model([*files, "--target", "target", "--output", str(tmp_path / "b")]) == 0
    task = "regression" if name == "diabetes" else "classification"
    assert load_manifest(tmp_path / "b").task == task


def test_figures_of_classes_are_scikit_learns() -> None:
    """By the names of the recorded series."""
    outputs = np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.9, 0.1]])
    answers = [
        {"kind": "no" if a > b else "yes", "probabilities": {"no": a, "yes": b}}
        for a, b in outputs.tolist()
    ]
    actual = np.array(["no", "no", "yes", "no"])
    found = expected(Labelled(answers, actual))

    assert found["accuracy"] == 0.75
    assert found["log_loss"] == pytest.approx(metrics.log_loss(actual, outputs))
    assert found["auc"] == 1.0
    assert "mae" not in found


def test_figures_of_numbers_are_scikit_learns() -> None:
    """Bias is prediction minus truth."""
    labelled = Labelled([{"price": 3.0}, {"price": 5.0}], np.array([1.0, 5.0]))

    assert expected(labelled) == pytest.approx({"mae": 1.0, "rmse": 2**0.5, "bias": 1.0})


@pytest.mark.parametrize(
    ("recorded", "is_equal"), [(0.5, True), (0.5 + 2e-9, False), (float("nan"), False)]
)
def test_a_figure_that_differs_is_a_fault(recorded: float, is_equal: bool) -> None:  # noqa: FBT001
    """Also one that is not recorded."""
    assert Figure("accuracy", recorded, 0.5, 1e-9).is_equal is is_equal


def test_without_a_model_one_line_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is 1."""
    monkeypatch.setenv("MODEL_PORT", str(free_port()))

    assert rehearse(["watch", str(tmp_path)]) == 1
    line = capsys.readouterr().err
    assert line.startswith("rehearse: no model answers at http://127.0.0.1:")
    assert line.endswith("./task up starts it\n")
