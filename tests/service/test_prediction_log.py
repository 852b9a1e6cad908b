"""The model and the prediction log together: each accepted event is one row, whoever is killed."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.support.clients_of_model import Clients
from tests.support.example import Row
from tests.support.logging_publisher import logging_predictions, read_rows
from tests.support.model import Model, running_model, total

KILLS = 4
# A longer run, such as that of docs/export.md: for so long the log is killed every 5 s.
SECONDS = float(os.environ.get("PREDICTION_LOG_KILL_SECONDS", "0"))
EVERY = 5.0
CLIENTS = 4


def kill_a_worker(model: Model, clients: Clients) -> None:
    """Kill a worker without a request in flight, of which nobody knows what it has stored."""
    with clients.paused():
        killed = min(model.pids())
        os.kill(killed, signal.SIGKILL)
        model.wait_for_replacement(killed)


@pytest.mark.timeout(300 + 2 * SECONDS)
def test_every_accepted_event_is_one_row_under_kill_9(
    example_bundle: Path, tmp_path: Path, held_out_inputs: list[Row]
) -> None:
    """Rows are what clients received, none twice, and their error is the one that is counted."""
    spool, root = tmp_path / "spool" / "log", str(tmp_path / "predictions")
    settings = {"MODEL_SPOOL_LOG_DIR": str(spool), "MODEL_SPOOL_SEGMENT_SECONDS": "1"}
    kills = 0
    with running_model(example_bundle, tmp_path, **settings) as model:
        clients = Clients(model.url, held_out_inputs, CLIENTS)
        with clients.sending():
            started = time.monotonic()
            while kills < KILLS or time.monotonic() - started < SECONDS:
                name = tmp_path / f"log{kills}.txt"
                with logging_predictions(spool, root, name) as publisher:
                    publisher.until("a file is written", "publisher_events_total")
                    if SECONDS:
                        threading.Event().wait(EVERY * (kills + 1) - time.monotonic() + started)
                if kills % 2:
                    kill_a_worker(model, clients)
                kills += 1
        samples = model.scrape()
    with logging_predictions(spool, root, tmp_path / "last.txt") as publisher:
        publisher.until_idle()

    predictions, labels = (
        read_rows(root, "predictions").to_pylist(),
        read_rows(root, "labels").to_pylist(),
    )
    predicted = {each["prediction_id"]: each["prediction"] for each in predictions}
    actual = {each["prediction_id"]: each["actual"] for each in labels}
    errors = [abs(actual[key] - predicted[key]) for key in actual]
    counted = total(samples, "model_feedback_absolute_error_sum_total")
    print(  # noqa: T201 the figures of docs/export.md
        f"kills {kills}, accepted {len(clients.predictions)} + {len(clients.labels)}, rows"
        f" {len(predictions)} + {len(labels)}, duplicates"
        f" {len(predictions) - len(predicted) + len(labels) - len(actual)}, MAE"
        f" {sum(errors) / len(errors)!r} and {counted / len(errors)!r}"
    )
    assert predicted == clients.predictions
    assert actual == clients.labels
    assert (len(predictions), len(labels)) == (len(predicted), len(actual))
    assert total(samples, "model_spool_events_total", outcome="written") == len(predicted) + len(
        actual
    )
    assert total(samples, "model_feedback_total") == len(actual)
    assert sum(errors) / len(errors) == pytest.approx(counted / len(errors), rel=0, abs=1e-9)
