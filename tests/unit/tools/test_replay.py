"""What the comparison of a log with another version says."""

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
    """Return a kept spool of ten predictions, each 1 too low, and labels of the first five."""
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
    """Return a bundle whose prediction is `ph`; it has its features in another order."""
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
    """Predict `ph`, as the service would; refuse rows without `shelf`."""
    instances = json.loads(request.content)["instances"]
    if any(each["shelf"] is None for each in instances):
        return httpx.Response(422, json={"detail": []})
    answers = [
        {"quality": each["ph"], "prediction_id": "", "model_version": ""} for each in instances
    ]
    return httpx.Response(200, json={"predictions": answers})


def test_a_log_is_read_back(log: Path) -> None:
    """Rows, predictions and labels come back as they were answered."""
    found = read_log([log])

    assert found.names == ["ph", "shelf"]
    assert found.ids == [str(number) for number in range(10)]
    assert found.rows[8:] == [(8.0, 2.0), (9.0, None)]
    assert found.predictions.tolist() == [number - 1.0 for number in range(10)]
    assert found.labels == {str(number): float(number) for number in range(5)}


def test_a_torn_last_line_is_left_out(log: Path) -> None:
    """A worker's death in mid-line is no reason not to read its log."""
    (segment,) = log.glob("*.jsonl")
    segment.write_bytes(segment.read_bytes()[:-3])

    assert len(read_log([segment]).labels) == 4


def test_a_service_is_compared(log: Path) -> None:
    """Differences, refusals and the errors of both versions are told."""
    found = read_log([log])
    service = httpx.Client(base_url="http://model", transport=httpx.MockTransport(echo))

    lines = list(report(found, replay(found, with_service(service)), worst=1))

    assert lines == [
        "10 predictions of version abc",
        "1 rows are refused now",
        "100.0% are different",
        "difference: mean +1, mean size 1",
        "size: median 1, 99 % below 1, largest 1",
        "5 of them have a label",
        "logged: MAE 1, RMSE 1, bias -1",
        "now: MAE 0, RMSE 0, bias +0",
        '-1 → 0 {"ph": 0.0, "shelf": 2.0}',
    ]


def test_a_bundle_is_compared(
    log: Path, candidate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle is loaded here; features are matched by name, whatever their order."""
    main([str(log), "--bundle", str(candidate), "--worst", "0"])

    assert capsys.readouterr().out.splitlines()[:4] == [
        "10 predictions of version abc",
        "1 rows are refused now",
        "100.0% are different",
        "difference: mean +1, mean size 1",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no segment"),
        ("no json\n", "is no segment"),
        ('{"spool":2}\n', "has format 2"),
        ('{"spool":1,"features":[]}\n', "holds no prediction"),
    ],
)
def test_what_is_no_log_is_said(tmp_path: Path, content: str, words: str) -> None:
    """One line says what is wrong."""
    (tmp_path / "1.jsonl").write_text(content)

    with pytest.raises(ReplayError, match=words):
        read_log([tmp_path])
    with pytest.raises(SystemExit, match=f"^replay: .*{words}"):
        main([str(tmp_path), "--url", "http://127.0.0.1:1"])


def test_a_service_that_is_not_there_is_said(log: Path) -> None:
    """One line says whom nobody answers for."""
    with pytest.raises(SystemExit, match=r"^replay: http://127.0.0.1:1"):
        main([str(log), "--url", "http://127.0.0.1:1"])
