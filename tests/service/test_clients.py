"""Real clients predict: of the Open Inference Protocol, of MLflow, and one that is generated."""

import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from bundle.manifest import Manifest
from tests.service.conftest import StartModel
from tests.support.client_environment import INSTALL_SECONDS, run_client
from tests.support.example import TARGET, Row
from tests.support.machine import report_missing
from tests.support.model import Model, total

# The first test may have to install the clients.
pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 300)

ROWS = 5


@pytest.fixture(name="rows", scope="module")
def _rows(held_out_inputs: list[Row]) -> list[Row]:
    return held_out_inputs[:ROWS]


@pytest.fixture(name="expected", scope="module")
def _expected(model: Model, rows: list[Row]) -> list[float]:
    """Return the values that `/predict/batch` answers."""
    answer = httpx.post(f"{model.url}/predict/batch", json={"instances": rows})
    return [each[TARGET] for each in answer.raise_for_status().json()["predictions"]]


def talk(script: str, model: Model, manifest: Manifest, rows: list[Row], **more: Any) -> Any:  # noqa: ANN401
    """Run a client; every id that it got must be accepted as a label's."""
    return run_client(
        script,
        url=model.url,
        rows=rows,
        model=manifest.name,
        version=manifest.version,
        target=TARGET,
        **more,
    )


def accepted(model: Model, ids: list[str]) -> int:
    """Return how many labels are accepted for these ids."""
    labels = [{"prediction_id": each, "actual": 5} for each in ids]
    accepted: int = httpx.post(f"{model.url}/feedback", json=labels).json()["accepted"]
    return accepted


def test_triton_client_predicts(
    start_model: StartModel, example: Manifest, rows: list[Row], expected: list[float]
) -> None:
    """Its answers are those of a batch, its errors name feature and row, and both are counted."""
    with start_model(MODEL_WORKERS="1") as model:
        answers = talk("triton.py", model, example, rows)
        samples = model.scrape()
        for form in ("by_feature", "columns", "matrix", "gzip", "deflate"):
            assert answers[form]["values"] == expected
            assert answers[form]["id"] == "42"
            assert accepted(model, answers[form]["ids"]) == ROWS

    assert answers["live"]
    assert answers["ready"]
    assert answers["model_ready"]
    assert not answers["other_ready"]
    assert answers["server"]["name"] == "ml-monitoring"
    assert answers["model"]["versions"] == [example.version]
    assert [each["name"] for each in answers["model"]["inputs"]] == [
        each.name for each in example.features
    ]
    assert answers["requested"] == [TARGET]
    last = example.features[-1].name
    assert answers["above"].startswith(f"422 {last}[0]: Input should be less than")
    assert answers["another"] == "404 There is no model another"
    assert answers["version"] == f"404 There is no version 7 of model {example.name}"
    assert answers["binary"].startswith("422 Binary tensors are not supported")
    assert total(samples, "model_predictions_total") == 6 * ROWS
    assert total(samples, "model_input_rejected_total", field=last, reason="above") == ROWS
    assert total(samples, "model_rows_rejected_total") == ROWS + 1


def test_kserve_client_predicts(
    model: Model, example: Manifest, rows: list[Row], expected: list[float]
) -> None:
    """Its answers are those of a batch, and its errors name feature and row."""
    answers = talk("kserve_rest.py", model, example, rows)

    assert answers["values"] == expected
    assert accepted(model, answers["ids"]) == ROWS
    assert answers["live"]
    assert answers["ready"]
    assert answers["model_ready"]
    assert f"{example.features[-1].name}[{ROWS - 1}]: Input should be less" in answers["above"]
    assert "422 Unprocessable" in answers["above"]


def test_mlserver_codecs_predict(
    model: Model, example: Manifest, rows: list[Row], expected: list[float]
) -> None:
    """A data frame and a matrix, encoded by MLServer, get the answers of a batch."""
    if sys.version_info >= (3, 13):
        report_missing("mlserver does not support this Python")
    answers = talk("mlserver_codecs.py", model, example, rows)

    assert answers["inputs"] == [each.name for each in example.features]
    for form in ("frame", "matrix"):
        assert answers[form][TARGET] == expected
        assert accepted(model, answers[form]["prediction_id"]) == ROWS


def test_mlflow_client_predicts(
    model: Model, example: Manifest, rows: list[Row], expected: list[float]
) -> None:
    """In each of the four forms, its answers are those of a batch."""
    answers = talk("mlflow_scoring.py", model, example, rows)

    for answer in answers["answers"].values():
        assert answer["predictions"] == expected
        assert accepted(model, answer["prediction_ids"]) == ROWS
    assert answers["frame"] == expected
    assert answers["version"] == example.version
    assert 'error code 422, response: {"error_code":"BAD_REQUEST"' in answers["above"]
    assert f"{example.features[-1].name}[0]: Input should be less than" in answers["above"]


def test_a_generated_client_predicts_and_labels(
    model: Model, example: Manifest, rows: list[Row], expected: list[float], tmp_path: Path
) -> None:
    """A generator makes a typed client from the OpenAPI document; it reads answers and errors."""
    answers = talk("generated_client.py", model, example, rows, directory=str(tmp_path))

    assert answers["one"][TARGET] == expected[0]
    assert [each[TARGET] for each in answers["many"]["predictions"]] == expected
    assert answers["accepted"] == {
        "accepted": 1,
        "rejected": 0,
        "results": [{"status": "accepted"}],
    }
    assert answers["unknown"]["results"][0]["reason"] == "unknown"
    assert answers["no_labels"]["detail"][0]["type"] == "empty"
    assert answers["rejected"]["detail"][0]["loc"] == ["body", "ph"]
    assert answers["model"]["version"] == example.version
