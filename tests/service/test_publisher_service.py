"""The service and the publisher together: every answered request becomes an event at Fiddler."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.support.example import Row
from tests.support.model import running_model, total
from tests.support.publisher import publishing, require_client
from tools.fiddler_stand_in import running_fiddler

CLIENTS = 4
KEY = "k" * 32


def test_every_answer_is_an_event(
    example_bundle: Path, tmp_path: Path, held_out_inputs: list[Row]
) -> None:
    """Every answered prediction and label reaches Fiddler, although a worker is killed."""
    require_client()
    spool = tmp_path / "spool"
    labels: dict[str, float] = {}
    predictions: dict[str, float] = {}

    def send_requests(client: int) -> None:
        with httpx.Client(base_url=model.url) as http:
            for index, row in enumerate(held_out_inputs[client::CLIENTS]):
                try:
                    answer = http.post("/predict", json=row).json()
                    predictions[answer["prediction_id"]] = answer["quality"]
                    label = {"prediction_id": answer["prediction_id"], "actual": float(index % 10)}
                    answer = http.post("/feedback", json=label).json()
                except httpx.TransportError:  # the worker was killed
                    continue
                if answer["accepted"] == 1:
                    labels[label["prediction_id"]] = label["actual"]

    settings = {"MODEL_SPOOL_DIR": str(spool), "MODEL_PREDICTION_KEYS": KEY}
    with running_fiddler() as fiddler:
        with running_model(example_bundle, tmp_path, **settings) as model:
            with ThreadPoolExecutor(CLIENTS) as pool:
                clients = [pool.submit(send_requests, client) for client in range(CLIENTS)]
                for worker in sorted(model.wait_until_ready())[:1]:
                    os.kill(worker, signal.SIGKILL)
                for each in clients:
                    each.result()
            samples = model.scrape()
            assert total(samples, "model_spool_events_total", outcome="failed") == 0
        with publishing(spool, fiddler.url, tmp_path / "publisher.log") as publisher:
            publisher.until_idle()
        events = fiddler.store.all_events()

    assert len(predictions) > 100
    assert len(labels) > 100
    assert predictions.items() <= {key: e["predicted_quality"] for key, e in events.items()}.items()
    assert labels.items() <= {key: event.get("quality") for key, event in events.items()}.items()
    assert fiddler.store.counts["orphans"] == 0
