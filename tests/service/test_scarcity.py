"""What the service does when nobody reads its log, and when its metrics directory is full."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import StartModel
from tests.support.example import Row
from tests.support.machine import free_port
from tests.support.model import SERVICE, Model, start_model, total
from tests.support.processes import environment, running
from tests.support.wait import eventually


def send_invalid(model: Model, count: int) -> None:
    """Send bytes that are no HTTP; each gets an answer."""
    for _ in range(count):
        with model.connect() as connection:
            connection.sendall(b"no HTTP\r\n\r\n")
            assert connection.recv(64).startswith(b"HTTP/1.1 400")


def test_a_log_that_nobody_reads_stops_nothing(
    example_bundle: Path, tmp_path: Path, held_out_inputs: list[Row]
) -> None:
    """Its pipe is full from the start; predictions and scrapes go on, and the service stops."""
    port, metrics_port = free_port(), free_port()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    settings = {
        "MODEL_BUNDLE": str(example_bundle),
        "MODEL_PORT": str(port),
        "MODEL_METRICS_PORT": str(metrics_port),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        "MODEL_PREDICTION_KEYS": "k" * 32,
        "MODEL_WORKERS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "entrypoint.py"],
        cwd=SERVICE,
        env=environment(settings),
        stdout=writer,
        stderr=writer,
    )
    os.close(writer)
    try:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: httpx.get(f"{url}/readyz").is_success, "the service is ready")
        for _ in range(3):
            httpx.post(f"{url}/predict", json=held_out_inputs[0]).raise_for_status()
        page = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics").raise_for_status().text
        assert "model_predictions_total{" in page
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reader)


def test_a_client_cannot_fill_the_log(start_model: StartModel) -> None:
    """Requests that are no HTTP are counted, and not logged."""
    with start_model(MODEL_WORKERS="1") as model:
        before = model.program.output()
        send_invalid(model, 50)
        eventually(
            lambda: total(model.scrape(), "http_rejections_total", reason="malformed") == 50,
            "every rejection is counted",
        )
        after = model.program.output()

    assert after == before
    assert all(json.loads(line)["level"] for line in after.splitlines())


@pytest.fixture(name="small")
def _small(tmp_path: Path) -> Iterator[Path]:
    """Yield a directory in memory with room for a few workers."""
    directory = tmp_path / "small"
    directory.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("mount is not installed")
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a tmpfs to fill")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(directory: Path) -> None:
    """Leave no block free."""
    with suppress(OSError), (directory / "filling").open("wb", 0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_metrics_directory_costs_counts_not_predictions(
    example_bundle: Path, tmp_path: Path, small: Path, held_out_inputs: list[Row]
) -> None:
    """Workers that run count on; one that starts says that it cannot, until a reload."""
    row = held_out_inputs[0]
    model = start_model(
        example_bundle, tmp_path, PROMETHEUS_MULTIPROC_DIR=str(small), MODEL_WORKERS="1"
    )

    def ask(count: int) -> None:
        with httpx.Client(base_url=model.url) as client:
            for _ in range(count):
                client.post("/predict", json=row).raise_for_status()
                client.get("/docs").raise_for_status()

    with running(model.program):
        (worker,) = model.wait_until_ready()
        fill(small)
        ask(5)
        assert total(model.scrape(), "model_predictions_total") == 5
        os.kill(worker, signal.SIGKILL)
        model.wait_for_replacement(worker)
        ask(3)
        samples = model.scrape()
        assert total(samples, "model_predictions_total") == 5
        assert total(samples, "service_uncounted_requests_total") >= 3
        assert model.program.output().count("is full: this worker's counts are lost") == 1

        (small / "filling").unlink()
        before = model.pids()
        model.program.signal(signal.SIGHUP)
        for pid in before:
            model.wait_for_replacement(pid)
        ask(2)
        assert total(model.scrape(), "model_predictions_total") == 7


def test_a_label_counts_once_on_many_workers(
    start_model: StartModel, held_out_inputs: list[Row]
) -> None:
    """Whichever worker each copy of it reaches, also after that worker was killed."""
    with start_model(MODEL_WORKERS="4") as model:
        answer = httpx.post(f"{model.url}/predict", json=held_out_inputs[0]).json()
        label = {"prediction_id": answer["prediction_id"], "actual": 5}
        statuses = [httpx.post(f"{model.url}/feedback", json=label).json() for _ in range(20)]
        victim = min(model.pids())
        os.kill(victim, signal.SIGKILL)
        model.wait_for_replacement(victim)
        statuses += [httpx.post(f"{model.url}/feedback", json=label).json() for _ in range(20)]
        samples = model.scrape()

    assert total(samples, "model_feedback_total") == 1
    assert total(samples, "model_feedback_rejected_total", reason="duplicate") == 39
    assert len(statuses) == 40


def test_made_up_methods_make_no_series(start_model: StartModel) -> None:
    """They are one label, of any route."""
    paths = ("/predict", "/readyz", "/nowhere")
    with start_model(MODEL_WORKERS="1") as model, httpx.Client(base_url=model.url) as client:
        for path in paths:
            client.request("DELETE", path)
        before = len(model.scrape())
        for method in ("PUT", "PATCH", "BREW", "TRACE", "OPTIONS", *(f"X{n}" for n in range(20))):
            for path in paths:
                client.request(method, path)

        assert len(model.scrape()) == before
