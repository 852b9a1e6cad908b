"""The stack in containers with a Fiddler: all that was answered gets there, whatever is killed."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx
import pytest

from bundle.manifest import Manifest
from tests.support.docker import Stack, assert_hardened, bridge_address, composed
from tests.support.example import TARGET, Row, held_out_rows, without_target
from tests.support.model import Samples, parse, total
from tests.support.wait import eventually
from tools.fiddler_stand_in import (
    ORGANISATION,
    TOKEN,
    Fault,
    FaultPolicy,
    Fiddler,
    first_requests,
    no_fault,
    running_fiddler,
)

SERVICES = ("locust", "model", "publisher", "prometheus")
KEY = "k" * 32  # a new model takes the labels of the old one's predictions
PREDICTED = f"predicted_{TARGET}"
PATIENCE = 120.0  # s; the publisher's pauses grow to 60

pytestmark = pytest.mark.timeout(900)  # the first test builds the images

Values = dict[str, float]
"""What was predicted, or the label, by the prediction's id."""


@pytest.fixture(scope="module")
def fiddler() -> Iterator[Fiddler]:
    """Run a Fiddler that containers reach."""
    with running_fiddler(bridge_address()) as started:
        yield started


@pytest.fixture(scope="module")
def stack(fiddler: Fiddler) -> Iterator[Stack]:
    """Start what has to do with Fiddler, once for the tests of this file."""
    with composed(
        *SERVICES,
        FIDDLER_URL=fiddler.url,
        FIDDLER_ORG_ID=ORGANISATION,
        FIDDLER_AUTH_TOKEN=TOKEN,
        PUBLISHER_LABEL_DELAY_SECONDS="10",
        MODEL_PREDICTION_KEYS=KEY,
    ) as started:
        yield started


@pytest.fixture(scope="module")
def inputs(example_bundle: Path) -> list[Row]:
    """Return rows to predict."""
    return [without_target(row) for row in held_out_rows(example_bundle)[:300]]


def scrape(stack: Stack, port: str) -> Samples:
    """Return the samples of the metrics at a port."""
    return parse(httpx.get(stack.url(port, "/metrics")).raise_for_status().text)


def written(stack: Stack) -> float:
    """Return how many events the model's workers have spooled since the model started."""
    return total(scrape(stack, "MODEL_METRICS_PORT"), "model_spool_events_total", outcome="written")


def waiting(stack: Stack) -> float:
    """Return how many events the publisher has not brought to Fiddler yet."""
    return total(scrape(stack, "PUBLISHER_METRICS_PORT"), "publisher_backlog_events")


def counted(fiddler: Fiddler) -> Counter[str]:
    """Return what has become of the events that arrived so far."""
    with fiddler.lock:
        return fiddler.store.counts.copy()


def arrived(fiddler: Fiddler, column: str) -> Values:
    """Return a column of the events that have it."""
    with fiddler.lock:
        events = fiddler.store.all_events()
        return {key: event[column] for key, event in events.items() if column in event}


def predict(stack: Stack, inputs: list[Row]) -> Values:
    """Return what was answered."""
    with httpx.Client(base_url=stack.url("MODEL_PORT")) as client:
        answers = [client.post("/predict", json=row).raise_for_status().json() for row in inputs]
    return {answer["prediction_id"]: answer[TARGET] for answer in answers}


def send_labels(stack: Stack, predictions: Values) -> Values:
    """Send a label for each prediction, all at once, and return them once they are accepted."""
    labels = {key: float(number % 10) for number, key in enumerate(predictions)}
    body = [{"prediction_id": key, "actual": actual} for key, actual in labels.items()]
    answer = httpx.post(stack.url("MODEL_PORT", "/feedback"), json=body).raise_for_status().json()
    assert answer["accepted"] == len(labels)
    return labels


@contextmanager
def quiet(stack: Stack) -> Iterator[None]:
    """Pause locust, and wait until all it has caused is at Fiddler."""
    stack.compose("pause", "locust")
    try:
        eventually(lambda: waiting(stack) == 0, "nothing waits", PATIENCE)
        yield
    finally:
        stack.compose("unpause", "locust")


def wait_for(fiddler: Fiddler, column: str, expected: Values) -> None:
    """Wait until Fiddler has these values of a column."""

    def lacking() -> int:
        return len(expected.items() - arrived(fiddler, column).items())

    try:
        eventually(lambda: not lacking(), f"every {column} is there", PATIENCE)
    except AssertionError as error:
        pytest.fail(f"{error}: {lacking()} of {len(expected)} are not")


def first_post(fault: Fault) -> FaultPolicy:
    """Have a fault in the first request with new events."""
    first = first_requests(1, fault)
    return lambda method, path: first(method, path) if method == "POST" else None


def test_every_container_is_healthy_and_locked_up(stack: Stack) -> None:
    """With the publisher among them, and with nothing else."""
    containers = stack.containers()

    assert set(containers) == set(SERVICES)
    for known in containers.values():
        assert_hardened(known)


def test_spool_belongs_to_those_who_write_it(stack: Stack) -> None:
    """A new volume is of both containers' one user, and of no other's concern."""
    for service in ("model", "publisher"):
        words = ("stat", "--format", "%u:%g %a", "/var/spool/model")

        assert stack.compose("exec", "-T", service, *words) == "10001:10001 750"


def test_prometheus_scrapes_the_publisher(stack: Stack) -> None:
    """FIDDLER_URL makes it a target, and what it published is recorded."""

    def holds(query: str) -> bool:
        url = stack.url("PROMETHEUS_PORT", "/api/v1/query")
        answer = httpx.get(url, params={"query": query}).raise_for_status().json()
        return bool(answer["data"]["result"])

    up = 'up{job="publisher"} == 1'
    publishes = 'publisher_events_total{job="publisher", kind="prediction"} > 0'
    eventually(lambda: holds(up), up)
    eventually(lambda: holds(publishes), publishes)


def test_the_models_training_rows_are_there(
    stack: Stack, fiddler: Fiddler, example: Manifest
) -> None:
    """Fiddler knows the model that answers, with its training rows as baseline."""
    version = httpx.get(stack.url("MODEL_PORT", "/")).raise_for_status().json()["version"]
    eventually(lambda: dict(fiddler.store.datasets), "a baseline is there", PATIENCE)

    (model,) = fiddler.store.models.values()
    baseline = fiddler.store.datasets[model["id"]]["training"].decode().splitlines()
    assert (model["name"], model["version"]) == (example.name, version)
    assert len(baseline) == 1 + example.rows


def test_all_that_locust_does_arrives_once(stack: Stack, fiddler: Fiddler) -> None:
    """As many predictions and labels as the model has spooled, all of them, none twice."""
    with quiet(stack):
        before, spooled_before = counted(fiddler), written(stack)
    labels = "locust's labels come, some time after their predictions"
    eventually(lambda: (counted(fiddler) - before)["updates"], labels, PATIENCE)
    with quiet(stack):
        news, spooled = counted(fiddler) - before, written(stack) - spooled_before

    assert news["accepted"] > 0
    assert news["updates"] > 0
    assert news["accepted"] + news["updates"] == spooled
    assert news["duplicates"] == news["orphans"] == 0


@pytest.mark.parametrize("what", ["stall", "stall_after"])
def test_killed_publisher_loses_nothing(
    stack: Stack, fiddler: Fiddler, inputs: list[Row], what: Literal["stall", "stall_after"]
) -> None:
    """Killed in mid-request, before Fiddler has the events or after: they arrive all the same."""
    duplicates = counted(fiddler)["duplicates"]
    fiddler.stalled.clear()
    fiddler.released.clear()
    fiddler.fault = first_post(Fault(what))
    predictions = predict(stack, inputs)
    eventually(fiddler.stalled.is_set, "a request hangs")

    stack.compose("kill", "publisher")
    dead = stack.containers()["publisher"]["State"]
    fiddler.release()
    labels = send_labels(stack, predictions)
    stack.compose("up", "--detach", "--wait", "--no-deps", "publisher")

    assert dead["ExitCode"] == 137
    wait_for(fiddler, PREDICTED, predictions)
    wait_for(fiddler, TARGET, labels)
    assert (counted(fiddler)["duplicates"] > duplicates) == (what == "stall_after")
    assert counted(fiddler)["orphans"] == 0


def test_spool_outlives_the_models_container(
    stack: Stack, fiddler: Fiddler, inputs: list[Row]
) -> None:
    """While Fiddler is down the model is killed and recreated; the new one's labels arrive."""
    before = stack.containers()["model"]["Id"]
    fiddler.fault = lambda _, __: Fault("answer", 503)
    try:
        predictions = predict(stack, inputs)
        stack.compose("kill", "model")
        stack.compose("up", "--detach", "--wait", "--no-deps", "--force-recreate", "model")
        labels = send_labels(stack, predictions)
        there = arrived(fiddler, PREDICTED)
    finally:
        fiddler.fault = no_fault

    assert stack.containers()["model"]["Id"] != before
    assert not predictions.keys() & there.keys()
    wait_for(fiddler, PREDICTED, predictions)
    wait_for(fiddler, TARGET, labels)
    assert counted(fiddler)["orphans"] == 0


def test_model_does_not_wait_for_the_publisher(
    stack: Stack, fiddler: Fiddler, inputs: list[Row]
) -> None:
    """It ends with 0 when it is stopped; what is answered without it arrives when it is back."""
    stack.compose("stop", "publisher")
    state = stack.containers()["publisher"]["State"]
    predictions = predict(stack, inputs[:100])
    stack.compose("up", "--detach", "--wait", "--no-deps", "publisher")

    assert state["ExitCode"] == 0
    wait_for(fiddler, PREDICTED, predictions)
