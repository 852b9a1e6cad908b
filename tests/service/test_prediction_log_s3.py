"""The prediction log in an object store, by a publisher process and an S3 server over HTTP."""

from pathlib import Path

import pytest

from tests.support.client_environment import INSTALL_SECONDS
from tests.support.logging_publisher import logging_predictions, read_rows
from tests.support.model import total
from tests.support.object_store import ObjectStore, object_store
from tests.support.publisher import accepted, start_writer

# The first test may have to install the server.
pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 300)

BUCKET = "predictions"
ROOT = f"s3://{BUCKET}/some/prefix"


def ids(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    """Return the ids of all rows of predictions and of labels, in order."""
    for name, value in store.settings.items():
        monkeypatch.setenv(name, value)
    predictions, labels = (
        sorted(read_rows(ROOT, table)["prediction_id"].to_pylist())
        for table in ("predictions", "labels")
    )
    return predictions, labels


def test_every_event_is_in_the_bucket_once_after_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is down in the middle, and the publisher is killed while it tries again."""
    spool = tmp_path / "spool"
    spool.mkdir()
    with object_store(BUCKET) as store:
        writer = start_writer(spool, "writer", tmp_path, batches=150)
        with logging_predictions(spool, ROOT, tmp_path / "1.txt", **store.settings) as publisher:
            publisher.until("a file is written", "publisher_events_total")
            store.stop()
            publisher.until("the outage", "publisher_failures_total", cause="connection")
        with logging_predictions(spool, ROOT, tmp_path / "2.txt", **store.settings) as publisher:
            publisher.until("the outage", "publisher_failures_total", cause="connection")
            assert writer.wait() == 0
            store.start()
            publisher.until_idle()
            stopped = total(publisher.scrape(), "publisher_stopped")
        predictions, labels = ids(store, monkeypatch)

    # The writer labels some predictions again, and each label is an event.
    lines = [line.split() for line in writer.output().splitlines() if line]
    assert predictions == sorted(key for kind, key in lines if kind == "p")
    assert labels == sorted(key for kind, key in lines if kind == "l")
    assert stopped == 0


def test_a_missing_bucket_stops_the_log_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line of its log names the setting and the bucket; it goes on once there is one."""
    spool = tmp_path / "spool"
    spool.mkdir()
    with object_store("another") as store:
        assert start_writer(spool, "writer", tmp_path, batches=20).wait() == 0
        with logging_predictions(
            spool, ROOT, tmp_path / "log.txt", PUBLISHER_STOPPED_SECONDS="0.1", **store.settings
        ) as publisher:
            publisher.until("the log stops", "publisher_stopped", reason="not_found")
            (line, *_) = [
                each for each in publisher.program.output().splitlines() if "ERROR" in each
            ]
    with (
        object_store(BUCKET) as store,
        logging_predictions(spool, ROOT, tmp_path / "log.txt", **store.settings) as publisher,
    ):
        publisher.until_idle()
        predictions, labels = ids(store, monkeypatch)

    assert f"PREDICTION_LOG: {ROOT}: " in line
    assert "NO_SUCH_BUCKET" in line
    assert (set(predictions), set(labels)) == accepted(tmp_path)
