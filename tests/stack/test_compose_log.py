"""The stack in containers with a prediction log and no Fiddler: what is answered gets there."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.docker import Stack, assert_hardened, composed
from tests.support.example import TARGET, held_out_rows, without_target
from tests.support.logging_publisher import read_rows
from tests.support.wait import eventually
from tools.stack import compose
from tools.stack.settings import load_settings

SERVICES = ("model", "prediction-log", "prometheus")

pytestmark = pytest.mark.timeout(900)  # the first test builds the images


@pytest.fixture(name="log", scope="module")
def _log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "predictions"


@pytest.fixture(name="stack", scope="module")
def _stack(log: Path) -> Iterator[Stack]:
    """Start what has to do with the log, as `./task up` does."""
    settings = load_settings({"PREDICTION_LOG": str(log)}, log.parent)
    compose.make_log_directory(settings)
    with composed(
        *SERVICES, MODEL_SPOOL_SEGMENT_SECONDS="1", **compose.log_environment(settings)
    ) as started:
        yield started


def test_every_container_is_healthy_and_locked_up(stack: Stack) -> None:
    """The log's publisher is started without Fiddler's."""
    containers = stack.containers()

    assert set(containers) == set(SERVICES)
    for known in containers.values():
        assert_hardened(known)


def test_answers_are_rows_that_the_owner_of_the_log_may_read(
    stack: Stack, log: Path, example_bundle: Path
) -> None:
    """Predictions and labels, each once, in files of the directory's group and of no others."""
    rows = [without_target(row) for row in held_out_rows(example_bundle)[:100]]
    with httpx.Client(base_url=stack.url("MODEL_PORT")) as client:
        answers = [client.post("/predict", json=row).raise_for_status().json() for row in rows]
        labels = [{"prediction_id": each["prediction_id"], "actual": 5} for each in answers]
        assert client.post("/feedback", json=labels).json()["accepted"] == len(labels)
    predicted = {each["prediction_id"]: each[TARGET] for each in answers}

    eventually(lambda: read_rows(str(log), "labels").num_rows >= 100, "the labels are there")

    found = read_rows(str(log), "predictions").select(["prediction_id", "prediction"]).to_pylist()
    assert len(found) == 100
    assert {each["prediction_id"]: each["prediction"] for each in found} == predicted
    written = read_rows(str(log), "labels")["prediction_id"].to_pylist()
    assert sorted(written) == sorted(predicted)
    group = log.stat().st_gid
    files = [path.stat() for path in log.rglob("*.parquet")]
    assert {(each.st_gid, each.st_mode & 0o777) for each in files} == {(group, 0o660)}


def test_prometheus_scrapes_the_log(stack: Stack) -> None:
    """PREDICTION_LOG makes it a target, and there is no other publisher."""

    def jobs() -> set[str]:
        url = stack.url("PROMETHEUS_PORT", "/api/v1/query")
        answer = httpx.get(url, params={"query": "up == 1"}).raise_for_status().json()
        return {each["metric"]["job"] for each in answer["data"]["result"]}

    eventually(lambda: "prediction-log" in jobs(), "the log is scraped")

    targets = httpx.get(stack.url("PROMETHEUS_PORT", "/api/v1/targets")).json()["data"]
    assert "publisher" not in {each["labels"]["job"] for each in targets["activeTargets"]}
