"""The cost of signing and verifying a prediction id, and of spooling an event."""

import tempfile
from pathlib import Path

from bench.bench import VAR, Bench
from bench.clock import microseconds
from bench.report import Section, at_most, number_text
from bundle.load import load_manifest
from serving.events import Prediction
from serving.prediction_id import Signer
from serving.spool import Spool
from serving.spool_room import Limits

_GIGABYTE = 10**9
_EVENTS = 16


def measure(bench: Bench) -> Section:
    """Measure processor time per call."""
    manifest = load_manifest(bench.bundle)
    signer = Signer([b"k" * 32], manifest.name, manifest.version)
    signed = signer.sign(5.5, 1.7e9)
    sign = microseconds(lambda: signer.sign(5.5, 1.7e9), bench.rounds)
    verify = microseconds(lambda: signer.read(signed), bench.rounds)
    # On disk, like a real spool; the benchmark's other files are in memory.
    with tempfile.TemporaryDirectory(dir=VAR) as directory:
        limits = Limits(2 * _GIGABYTE, _GIGABYTE // 16, 3600.0)
        spool = Spool((Path(directory),), manifest, limits, lambda _outcome, _events: None)
        event = Prediction(signed, 1.7e9, [*bench.rows[0].values()], 5.5)
        single, batch = (_append(spool, [event] * events, bench) for events in (1, _EVENTS))
        spool.close()
    return Section(
        "µs of processor time",
        [
            ["", "µs"],
            ["sign an id", number_text(sign)],
            ["verify an id", number_text(verify)],
            ["spool a single event", number_text(single)],
            [f"spool an event in a batch of {_EVENTS}", number_text(batch / _EVENTS)],
        ],
        [
            at_most("ids", "signing", sign, 5, " µs"),
            at_most("ids", "verifying", verify, 10, " µs"),
            at_most("export", "spooling a single prediction", single, 10, " µs"),
        ],
    )


def _append(spool: Spool, events: list[Prediction], bench: Bench) -> float:
    return microseconds(lambda: spool.append(events), bench.rounds)
