"""Counts are exact for several workers in a single scrape, however often workers die."""

import json
import os
import signal
import sys
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
    """Send `count` rows over several connections at once; one in ten is invalid."""

    def share(number: int) -> None:
        with httpx.Client(base_url=model.url, timeout=30) as client:
            for index in range(number, count, CONNECTIONS):
                status = 200 if index % 10 else 422
                body = row if index % 10 else {**row, "ph": -1}
                assert client.post("/predict", json=body).status_code == status

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(share, range(CONNECTIONS)))


def counts(samples: Samples) -> dict[str, float]:
    """Return every count that depends on the number of requests."""
    bins = select(samples, "model_feature_bin_total", feature="ph")
    return {
        "answered": total(samples, "http_requests_total", handler="/predict", status="2xx"),
        "timed": total(samples, "http_request_duration_seconds_count", handler="/predict"),
        "sized": total(samples, "http_request_size_bytes_count", handler="/predict"),
        "4xx": total(samples, "http_requests_total", handler="/predict", status="4xx"),
        "rejected": total(samples, "model_input_rejected_total", field="ph", reason="below"),
        "predicted": total(samples, "model_predictions_total"),
        "valued": total(samples, "model_prediction_value_count"),
        "binned": sum(bins.values()),
    }


def expected(count: int) -> dict[str, float]:
    """Return the expected `counts` after a number of requests."""
    rejected = len(range(0, count, 10))
    answered = count - rejected
    return {
        "answered": answered,
        "timed": count,
        "sized": count,
        "4xx": rejected,
        "rejected": rejected,
        "predicted": answered,
        "valued": answered,
        "binned": answered,
    }


def kill(model: Model, number: signal.Signals) -> int:
    """Send a signal to one worker; return its pid once it has been replaced."""
    victim = min(model.wait_until_ready())
    os.kill(victim, number)
    model.wait_for_replacement(victim)
    return victim


def own_files(model: Model, pid: int) -> list[str]:
    """Return the names of a process's metric files."""
    return [path.name for path in model.metrics_dir.glob(f"*_{pid}.db")]


def workers_that_counted(model: Model) -> int:
    """Return the number of live workers with predictions in their own files."""
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


def test_counts_stay_exact_when_workers_die(model: Model, held_out_inputs: list[Row]) -> None:
    """N requests to four workers are N in one scrape, also after workers were killed or stopped."""
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


def test_the_number_of_metric_files_is_limited(model: Model) -> None:
    """Dead workers leave one file per type, and totals do not change."""
    before = counts(model.scrape())
    for number in (signal.SIGKILL, signal.SIGTERM) * 2:
        kill(model, number)

    assert counts(model.scrape()) == before
    files = [path.stem.rpartition("_") for path in model.metrics_dir.glob("*.db")]
    archives = sorted(type_ for type_, _, owner in files if owner == "archive")
    assert archives == ["counter", "histogram", "summary"]
    master = str(model.program.pid)
    assert {owner for *_, owner in files} == {"archive", master, *map(str, model.pids())}


def test_no_label_identifies_a_process(model: Model) -> None:
    """Otherwise each restart of a worker would add series."""
    assert not any("pid" in dict(labels) for _, labels in model.scrape())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the figures of processes")
def test_a_killed_worker_hands_its_name_and_its_counter_on(model: Model) -> None:
    """So the number of series stays, and the CPU time of no process ever falls."""
    before = cpu_seconds(model)
    assert before.keys() == {"master", *(f"worker-{number}" for number in range(WORKERS))}
    kill(model, signal.SIGKILL)
    after = cpu_seconds(model)

    assert after.keys() == before.keys()
    assert all(after[name] >= before[name] for name in before)


def cpu_seconds(model: Model) -> dict[str, float]:
    """Return the CPU seconds by process."""
    found = select(model.scrape(), "service_process_cpu_seconds_total")
    return {dict(labels)["process"]: seconds for labels, seconds in found.items()}


def test_no_request_is_in_progress_without_traffic(model: Model) -> None:
    """The gauges of killed workers are removed."""
    assert set(select(model.scrape(), "http_requests_inprogress").values()) == {0}


def test_a_single_worker_is_replaced(start_model: StartModel, held_out_inputs: list[Row]) -> None:
    """The new worker continues the counts of the killed one."""
    with start_model(MODEL_WORKERS="1") as model:
        send(model, held_out_inputs[0], 50)
        kill(model, signal.SIGKILL)
        send(model, held_out_inputs[0], 50)

        samples = model.scrape()
    assert total(samples, "model_predictions_total") == 90


def test_labels_of_a_dead_worker_are_kept(
    start_model: StartModel, held_out_inputs: list[Row]
) -> None:
    """A label still counts after the death of the worker that counted it."""
    with start_model(MODEL_WORKERS="1") as model:
        answer = httpx.post(f"{model.url}/predict", json=held_out_inputs[0]).json()
        label = {"prediction_id": answer["prediction_id"], "actual": 5}
        httpx.post(f"{model.url}/feedback", json=label).raise_for_status()
        kill(model, signal.SIGKILL)

        assert total(model.scrape(), "model_feedback_total") == 1


def test_a_restart_starts_at_zero(
    start_model: StartModel, held_out_inputs: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Old files are removed; otherwise a worker with an old pid would continue their counts."""
    directory = str(tmp_path_factory.mktemp("metrics"))
    with start_model(PROMETHEUS_MULTIPROC_DIR=directory) as model:
        send(model, held_out_inputs[0], 50)
        kill(model, signal.SIGKILL)
        assert total(model.scrape(), "model_predictions_total") == 45
        assert list(islice(model.metrics_dir.glob("*_archive.db"), 1))

    with start_model(PROMETHEUS_MULTIPROC_DIR=directory) as model:
        assert counts(model.scrape()) == expected(0)


def test_the_rows_of_a_batch_are_counted(model: Model, held_out_inputs: list[Row]) -> None:
    """A row of a batch counts like a single row."""
    before = total(model.scrape(), "model_predictions_total")
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        body = json.dumps({"instances": held_out_inputs})
        url = f"{model.url}/predict/batch"
        for response in pool.map(lambda _: httpx.post(url, content=body, timeout=30), range(20)):
            response.raise_for_status()

    after = total(model.scrape(), "model_predictions_total")
    assert after - before == 20 * len(held_out_inputs)
