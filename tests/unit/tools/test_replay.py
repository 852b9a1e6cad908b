"""Replaying a prediction log against another version of the model."""

import json
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from bundle.build import build_bundle
from bundle.checks import Recipe
from bundle.manifest import Feature, Quantity
from serving.events import Prediction
from tests.support.spool import label, small_spool
from tools.replay import ReplayError, main, read_log, replay, report, with_service


@pytest.fixture(name="log")
def _log(tmp_path: Path) -> Path:
    """Return a kept spool of ten predictions, each 1 too low, with labels for the first five."""
    directory = tmp_path / "spool"
    directory.mkdir()
    writer, _ = small_spool(directory)
    for number in range(10):
        missing = float("nan") if number == 9 else 2.0
        writer.append([Prediction(str(number), 1.0, (float(number), missing), number - 1.0)])
    writer.append([label(str(number), float(number)) for number in range(5)])
    writer.close()
    return directory


@pytest.fixture(name="candidate", scope="module")
def _candidate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that predicts `ph` and has its features in another order than the log."""
    directory = tmp_path_factory.mktemp("candidate")
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"shelf": random.uniform(1, 3, 400), "ph": random.uniform(0, 9, 400)})
    rows["quality"] = rows["ph"]
    recipe = Recipe(
        name="loans",
        target=Quantity(name="quality", description="Grade"),
        features=[Feature(name=name, description=name) for name in ("shelf", "ph")],
    )
    build_bundle(LinearRegression(), rows, rows, recipe, directory)
    return directory


def echo(request: httpx.Request) -> httpx.Response:
    """Answer like a service that predicts `ph` and rejects rows without `shelf`."""
    instances = json.loads(request.content)["instances"]
    if any(each["shelf"] is None for each in instances):
        return httpx.Response(422, json={"detail": []})
    answers = [
        {"quality": each["ph"], "prediction_id": "", "model_version": ""} for each in instances
    ]
    return httpx.Response(200, json={"predictions": answers})


def test_a_log_is_read_back(log: Path) -> None:
    """A log is read into the rows, predictions and labels that were spooled."""
    found = read_log([log])

    assert found.names == ["ph", "shelf"]
    assert found.ids == [str(number) for number in range(10)]
    assert found.rows[8:] == [(8.0, 2.0), (9.0, None)]
    assert found.predictions.tolist() == [number - 1.0 for number in range(10)]
    assert found.labels == {str(number): float(number) for number in range(5)}


def test_an_incomplete_last_line_is_skipped(log: Path) -> None:
    """A log whose last line was cut off is read without that line."""
    (segment,) = log.glob("*.jsonl")
    segment.write_bytes(segment.read_bytes()[:-3])

    assert len(read_log([segment]).labels) == 4


def test_a_log_is_compared_with_a_service(log: Path) -> None:
    """The report has the differences, the rejected rows and the errors of both versions."""
    found = read_log([log])
    service = httpx.Client(base_url="http://model", transport=httpx.MockTransport(echo))

    lines = list(report(found, replay(found, with_service(service)), worst=1))

    assert lines == [
        "10 predictions of version abc",
        "rejected rows: 1",
        "different predictions: 100.0%",
        "difference: mean +1, mean absolute 1",
        "absolute: median 1, p99 1, maximum 1",
        "labelled rows: 5",
        "logged: MAE 1, RMSE 1, bias -1",
        "replayed: MAE 0, RMSE 0, bias +0",
        '-1 → 0 {"ph": 0.0, "shelf": 2.0}',
    ]


def test_a_log_is_compared_with_a_bundle(
    log: Path, candidate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle's features are matched by name, whatever their order."""
    main([str(log), "--bundle", str(candidate), "--worst", "0"])

    assert capsys.readouterr().out.splitlines()[:4] == [
        "10 predictions of version abc",
        "rejected rows: 1",
        "different predictions: 100.0%",
        "difference: mean +1, mean absolute 1",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a segment"),
        ("no json\n", "is not a segment"),
        ('{"spool":2}\n', "has the unknown format 2"),
        ('{"spool":1,"features":[]}\n', "contains no prediction"),
    ],
)
def test_an_invalid_log_is_reported(tmp_path: Path, content: str, message: str) -> None:
    """An invalid log ends the command with one line that names the reason."""
    (tmp_path / "1.jsonl").write_text(content)

    with pytest.raises(ReplayError, match=message):
        read_log([tmp_path])
    with pytest.raises(SystemExit, match=f"^replay: .*{message}"):
        main([str(tmp_path), "--url", "http://127.0.0.1:1"])


def test_an_unreachable_service_is_reported(log: Path) -> None:
    """An unreachable service ends the command with one line that names its URL."""
    with pytest.raises(SystemExit, match=r"^replay: http://127.0.0.1:1"):
        main([str(log), "--url", "http://127.0.0.1:1"])
