"""The termination of a pod with a publisher, with processes: the preStop hook."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.publisher import SERVICE, accepted, publishing, require_client, start_writer
from tests.support.wait import eventually
from tools.fiddler_stand_in import Fault, first_requests, running_fiddler

# The hook has the ports of a pod; the test passes free ones.
RUN = """\
import sys
from publisher.drain import drain
port, metrics = sys.argv[1:]
drain(("127.0.0.1", int(port)), metrics, pause=0.1, last_scrape=0)
"""


def test_a_terminating_pod_publishes_every_event(tmp_path: Path) -> None:
    """The publisher is stopped only after the model has ended and Fiddler has every event."""
    require_client()
    spool = tmp_path / "spool"
    spool.mkdir()
    with (
        running_fiddler() as fiddler,
        publishing(spool, fiddler.url, tmp_path / "publisher.log") as publisher,
        socket.create_server(("127.0.0.1", 0), backlog=1000) as model,
    ):
        fiddler.fault = first_requests(3, Fault("answer", 503))
        arguments = [model.getsockname()[1], publisher.metrics_url]
        publisher.program.until(publisher.scrape, "the publisher is up")
        drain = subprocess.Popen([sys.executable, "-c", RUN, *map(str, arguments)], cwd=SERVICE)
        assert start_writer(spool, "writer", tmp_path, batches=50).wait() == 0
        assert drain.poll() is None, "the hook ended while the model was listening"
        model.close()
        eventually(lambda: drain.poll() is not None, "the hook has ended")
        publisher.program.signal(signal.SIGTERM)
        assert publisher.program.wait() == os.EX_OK

    assert drain.returncode == 0
    predictions, labels = accepted(tmp_path)
    assert labels
    arrived = fiddler.store.all_events()
    assert arrived.keys() == predictions
    assert {key for key, event in arrived.items() if "quality" in event} == labels
