"""The running programs of the service tier."""

import importlib.util
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest
import yaml

from tests.support.example import TARGET, Row, drifted_rows, held_out_rows, without_target
from tests.support.locust import locust
from tests.support.machine import free_port
from tests.support.model import Model, running_model
from tests.support.prometheus import RULES, Prometheus, hurried, running_prometheus
from tests.support.publisher import publishing
from tools.fiddler_stand_in import running_fiddler

# The length of a minute of the recording rules: several scrapes, even on a busy machine.
MINUTE_SECONDS = 5
PAUSE_SECONDS = 0.05

# The panels of alerts can only be tested while an alert fires.
ALWAYS = {
    "groups": [
        {
            "name": "always",
            "rules": [
                {
                    "alert": "Always",
                    "expr": "group by (job, model, version) (model_info)",
                    "labels": {"severity": "ticket"},
                    "annotations": {"summary": "The model is running"},
                }
            ],
        }
    ]
}

StartModel = Callable[..., AbstractContextManager[Model]]


@pytest.fixture(scope="session")
def held_out(example_bundle: Path) -> list[Row]:
    """Return the held-out rows, including their target."""
    return held_out_rows(example_bundle)


@pytest.fixture(scope="session")
def held_out_inputs(held_out: list[Row]) -> list[Row]:
    """Return the held-out rows as requests."""
    return [without_target(row) for row in held_out]


@pytest.fixture(scope="session")
def drifted_inputs(example_bundle: Path) -> list[Row]:
    """Return every row of the drifted population as a request."""
    return [without_target(row) for row in drifted_rows(example_bundle)]


@pytest.fixture(scope="session")
def live_prometheus(
    example_bundle: Path, held_out: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Yield the URL of a Prometheus that records every series of a model under steady traffic.

    It also scrapes a locust and, if its client is installed, a publisher. One alert always fires.
    """
    directory = tmp_path_factory.mktemp("live")
    rules = hurried(RULES, directory / "rules", MINUTE_SECONDS)
    (rules / "always.yml").write_text(yaml.safe_dump(ALWAYS), "utf-8")
    with (
        running_model(example_bundle, directory, MODEL_SPOOL_DIR=str(directory / "spool")) as model,
        locust(
            directory / "locust.log", example_bundle, host=model.url, headless=True, users=1
        ) as client,
        _export(directory) as publishers,
        running_prometheus(
            directory,
            {
                "model": [model.metrics_url],
                "locust": [f"http://127.0.0.1:{client.metrics_port}/metrics"],
                "publisher": publishers,
            },
            rules,
        ) as prometheus,
        _traffic(model, held_out),
    ):
        _wait_for_verdicts(prometheus)
        yield prometheus.url


@pytest.fixture(scope="session")
def start_model(example_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> StartModel:
    """Return a function that starts a separate service with the given environment variables."""

    def start(**settings: str) -> AbstractContextManager[Model]:
        return running_model(example_bundle, tmp_path_factory.mktemp("model"), **settings)

    return start


@pytest.fixture(scope="module")
def model(start_model: StartModel) -> Iterator[Model]:
    """Run a service for the tests of one module, none of which affects it."""
    with start_model() as model:
        yield model


@contextmanager
def _export(directory: Path) -> Iterator[list[str]]:
    """Publish the spool to a stand-in for Fiddler; yield the targets to scrape.

    There is no target if Fiddler's client is not installed.
    """
    if importlib.util.find_spec("fiddler") is None:
        yield []
        return
    port = str(free_port())
    settings = {"PUBLISHER_METRICS_PORT": port, "PUBLISHER_POLL_SECONDS": "0.5"}
    log = directory / "publisher.log"
    with (
        running_fiddler() as fiddler,
        publishing(directory / "spool", fiddler.url, log, **settings),
    ):
        yield [f"127.0.0.1:{port}"]


@contextmanager
def _traffic(model: Model, known: list[Row]) -> Iterator[None]:
    """Send every row and its label at once, then single rows, one in 50 of them invalid."""
    stop = threading.Event()

    def send_steadily() -> None:
        with httpx.Client(base_url=model.url) as client:
            for number in count():
                if stop.wait(PAUSE_SECONDS):
                    return
                row = known[number % len(known)]
                inputs = without_target(row)
                if number % 50 == 0:
                    client.post("/predict", json={**inputs, "ph": -1})
                    continue
                answer = client.post("/predict", json=inputs)
                client.post("/feedback", json=label(answer.json(), row))

    _send_at_once(model, known)
    thread = threading.Thread(target=send_steadily)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _send_at_once(model: Model, known: list[Row]) -> None:
    inputs = [without_target(row) for row in known]
    answer = httpx.post(f"{model.url}/predict/batch", json={"instances": inputs})
    predictions = answer.raise_for_status().json()["predictions"]
    labels = [label(*pair) for pair in zip(predictions, known, strict=True)]
    httpx.post(f"{model.url}/feedback", json=labels).raise_for_status()


def label(answer: Row, row: Row) -> dict[str, object]:
    """Return the label of a prediction: the true value of `row`."""
    return {"prediction_id": answer["prediction_id"], "actual": row[TARGET]}


def _wait_for_verdicts(prometheus: Prometheus) -> None:
    def recorded() -> bool:
        verdicts = prometheus.by_label(
            'model_feature:verdict{window="1h",reference="training"}', "feature"
        )
        return len(verdicts) == 12 and -1 not in verdicts.values()

    prometheus.program.until(recorded, "a verdict on each of the 12 signals is recorded")
