"""Several publishers of one model: as many as there are pods, each with a spool of its own."""

import threading
from pathlib import Path

from tests.support.publisher import (
    accepted,
    make_spools,
    publishing_all,
    require_client,
    start_writer,
)
from tools.fiddler_stand_in import running_fiddler

REPLICAS = 3
ROWS = "quality,ph,shelf,prediction\n5,3.5,1,5.5\n"


def test_replicas_that_start_together_create_one_model(tmp_path: Path) -> None:
    """All look for the project, and then for the model, before any of them has created it."""
    require_client()
    together = threading.Barrier(REPLICAS)
    asked: dict[str, int] = {"/v3/projects": 0, "/v3/models": 0}
    lock = threading.Lock()

    def wait_for_all(method: str, path: str) -> None:
        with lock:
            first = method == "GET" and asked.get(path, REPLICAS) < REPLICAS
            asked[path] = asked.get(path, REPLICAS) + first
        if first:
            together.wait(timeout=60)

    spools = make_spools(tmp_path, REPLICAS)
    for number, spool in enumerate(spools):
        assert start_writer(spool, f"writer{number}", tmp_path, batches=5).wait() == 0
        (spool / "reference-abc.csv").write_text(ROWS)
    with running_fiddler() as fiddler:
        fiddler.fault = wait_for_all
        with publishing_all(spools, fiddler.url, tmp_path, "publisher") as publishers:
            for each in publishers:
                each.until_idle()
                each.until("the baseline is published", "publisher_baseline_published")

    predictions, labels = accepted(tmp_path)
    events = fiddler.store.all_events()
    assert events.keys() == predictions
    assert {key for key, event in events.items() if "quality" in event} == labels
    assert len(fiddler.store.projects) == len(fiddler.store.models) == 1
    assert fiddler.store.counts["datasets"] == 1


def test_labels_do_not_overtake_predictions_of_a_replica_that_is_down(tmp_path: Path) -> None:
    """A replica with only labels waits for the one that holds their predictions."""
    require_client()
    spools = make_spools(tmp_path, 2)
    assert start_writer(spools[0], "writer", tmp_path, batches=2).wait() == 0
    predictions, _ = accepted(tmp_path)
    # The other replica has a prediction of its own, and labels of the first one's.
    label = '{{"label_of":"{}","time":1764000900.5,"version":"abc","actual":6.0}}\n'
    (segment,) = spools[0].glob("*.jsonl")
    header = segment.read_text().partition("\n")[0]
    own = '{"prediction_id":"own","time":1764000000.25,"features":[3.5,2.0],"prediction":5.5}\n'
    lines = "".join(map(label.format, sorted(predictions)))
    (spools[1] / segment.name).write_text(f"{header}\n{own}{lines}")

    with running_fiddler() as fiddler:
        with publishing_all(spools, fiddler.url, tmp_path, "both", FIDDLER_TIMEOUT="5") as both:
            both[0].program.kill()
            both[1].until("it asked the other", "publisher_failures_total", cause="peer")
            both[1].until("its own prediction is sent", "publisher_events_total", kind="prediction")
        assert fiddler.store.counts["updates"] + fiddler.store.counts["orphans"] == 0
        with publishing_all(spools, fiddler.url, tmp_path, "again") as publishers:
            for each in publishers:
                each.until_idle()

    events = fiddler.store.all_events()
    assert fiddler.store.counts["orphans"] == 0
    assert events.keys() == predictions | {"own"}
    assert {key for key, event in events.items() if event.get("quality") == 6.0} == predictions
