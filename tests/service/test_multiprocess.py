"""Counts are exact: over several workers, on one scrape, and however often workers die."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import httpx
import numpy as np
import pytest

from serving.metrics.slots import entries
from tests.service.conftest import StartModel
from tests.support.example import Row
from tests.support.model import Model, Samples, select, total

WORKERS = 4
REQUESTS = 400
CONNECTIONS = 16


@pytest.fixture(name="model", scope="module")
def _model(start_model: StartModel) -> Iterator[Model]:
    with start_model(MODEL_WORKERS=str(WORKERS)) as model:
        yield model


def send(model: Model, row: Row, count: int = REQUESTS) -> None:
    """Send `count` rows over several connections at once, one in ten of them to be refused."""

    def share(number: int) -> None:
        with httpx.Client(base_url=model.url, timeout=30) as client:
            for index in range(number, count, CONNECTIONS):
                status = 200 if index % 10 else 422
                body = row if index % 10 else {**row, "ph": -1}
                assert client.post("/predict", json=body).status_code == status

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(share, range(CONNECTIONS)))


def counts(samples: Samples) -> dict[str, float]:
    """Return everything that must be as many as there were requests."""
    bins = select(samples, "model_feature_bin_total", feature="ph")
    return {
        "answered": total(samples, "http_requests_total", handler="/predict", status="2xx"),
        "timed": total(samples, "http_request_duration_seconds_count", handler="/predict"),
        "sized": total(samples, "http_request_size_bytes_count", handler="/predict"),
        "refused": total(samples, "http_requests_total", handler="/predict", status="4xx"),
        "rejected": total(samples, "model_input_rejected_total", field="ph", reason="below"),
        "predicted": total(samples, "model_predictions_total"),
        "valued": total(samples, "model_prediction_value_count"),
        "binned": sum(bins.values()),
    }


def expected(count: int) -> dict[str, float]:
    """Return what `counts` must be after so many requests."""
    refused = len(range(0, count, 10))
    answered = count - refused
    return {
        "answered": answered,
        "timed": count,
        "sized": count,
        "refused": refused,
        "rejected": refused,
        "predicted": answered,
        "valued": answered,
        "binned": answered,
    }


def kill(model: Model, number: signal.Signals) -> int:
    """Send a signal to one worker; return its pid once another has taken its place."""
    victim = min(model.wait_until_ready())
    os.kill(victim, number)
    model.wait_for_replacement(victim)
    return victim


def own_files(model: Model, pid: int) -> list[str]:
    """Return the names of a process's metric files."""
    return [path.name for path in model.metrics_dir.glob(f"*_{pid}.db")]


def workers_that_counted(model: Model) -> int:
    """Return how many live workers have predictions in files of their own."""
    counted = 0
    for pid in model.pids():
        content = (model.metrics_dir / f"counter_model_{pid}.db").read_bytes()
        numbers = np.frombuffer(content)
        counted += any(
            numbers[position] > 0
            for key, position in entries(content)
            if "model_predictions_total" in key
        )
    return counted


def test_counts_are_exact_through_deaths(model: Model, held_out_inputs: list[Row]) -> None:
    """N requests over four workers are N on one scrape; also after kills, clean and not."""
    sent = 0
    assert counts(model.scrape()) == expected(0)
    for number in (None, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        if number is not None:
            victim = kill(model, number)
            assert counts(model.scrape()) == expected(sent)
            assert not own_files(model, victim)
        send(model, held_out_inputs[0], REQUESTS)
        sent += REQUESTS

        assert counts(model.scrape()) == expected(sent)
        assert workers_that_counted(model) > 1


def test_metric_files_are_bounded(model: Model) -> None:
    """Deaths leave one file a type behind, and the totals as they were."""
    before = counts(model.scrape())
    for number in (signal.SIGKILL, signal.SIGTERM) * 2:
        kill(model, number)

    assert counts(model.scrape()) == before
    files = [path.stem.rpartition("_") for path in model.metrics_dir.glob("*.db")]
    archives = sorted(type_ for type_, _, owner in files if owner == "archive")
    assert archives == ["counter", "histogram", "summary"]
    assert {owner for *_, owner in files} == {"archive", *map(str, model.pids())}


def test_no_label_tells_processes_apart(model: Model) -> None:
    """A series a worker would be a series more at each restart."""
    assert not any("pid" in dict(labels) for _, labels in model.scrape())


def test_nothing_is_in_progress_when_nobody_asks(model: Model) -> None:
    """The gauges of killed workers are gone with them."""
    assert set(select(model.scrape(), "http_requests_inprogress").values()) == {0}


def test_a_worker_alone_is_replaced_by_one_that_counts(
    start_model: StartModel, held_out_inputs: list[Row]
) -> None:
    """With one worker, its death leaves none for a moment; nothing is lost but that moment."""
    with start_model(MODEL_WORKERS="1") as model:
        send(model, held_out_inputs[0], 50)
        kill(model, signal.SIGKILL)
        send(model, held_out_inputs[0], 50)

        samples = model.scrape()
    assert total(samples, "model_predictions_total") == 90


def test_feedback_survives_its_worker(start_model: StartModel, held_out_inputs: list[Row]) -> None:
    """A label counted by a worker that has died since is still counted."""
    with start_model(MODEL_WORKERS="1") as model:
        answer = httpx.post(f"{model.url}/predict", json=held_out_inputs[0]).json()
        label = {"prediction_id": answer["prediction_id"], "actual": 5}
        httpx.post(f"{model.url}/feedback", json=label).raise_for_status()
        kill(model, signal.SIGKILL)

        assert total(model.scrape(), "model_feedback_total") == 1


def test_a_restart_starts_at_zero(
    start_model: StartModel, held_out_inputs: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The old files are wiped, or a new worker with an old pid would go on counting."""
    directory = str(tmp_path_factory.mktemp("metrics"))
    with start_model(PROMETHEUS_MULTIPROC_DIR=directory) as model:
        send(model, held_out_inputs[0], 50)
        kill(model, signal.SIGKILL)
        assert total(model.scrape(), "model_predictions_total") == 45
        assert list(islice(model.metrics_dir.glob("*_archive.db"), 1))

    with start_model(PROMETHEUS_MULTIPROC_DIR=directory) as model:
        assert counts(model.scrape()) == expected(0)


def test_batches_count_their_rows(model: Model, held_out_inputs: list[Row]) -> None:
    """A row is a row, whichever way it came."""
    before = total(model.scrape(), "model_predictions_total")
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        body = json.dumps({"instances": held_out_inputs})
        url = f"{model.url}/predict/batch"
        for response in pool.map(lambda _: httpx.post(url, content=body, timeout=30), range(20)):
            response.raise_for_status()

    after = total(model.scrape(), "model_predictions_total")
    assert after - before == 20 * len(held_out_inputs)
