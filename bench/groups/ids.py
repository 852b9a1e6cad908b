"""What a prediction's signed id costs, and spooling an event."""

import tempfile
from pathlib import Path

from bench.bench import VAR, Bench
from bench.clock import microseconds
from bench.report import Section, at_most, number_text
from bundle.load import load_manifest
from serving.events import Prediction
from serving.prediction_id import Signer
from serving.spool import Limits, Spool

_GIGABYTE = 10**9
_EVENTS = 16


def measure(bench: Bench) -> Section:
    """Measure the speed goals of ids and of the spool."""
    manifest = load_manifest(bench.bundle)
    signer = Signer([b"k" * 32], manifest.name, manifest.version)
    signed = signer.sign(5.5, 1.7e9)
    sign = microseconds(lambda: signer.sign(5.5, 1.7e9), bench.rounds)
    verify = microseconds(lambda: signer.read(signed), bench.rounds)
    # On the disk, where a spool lies; not in memory, where the benchmark's other files do.
    with tempfile.TemporaryDirectory(dir=VAR) as directory:
        limits = Limits(2 * _GIGABYTE, _GIGABYTE // 16, 3600.0)
        spool = Spool(Path(directory), manifest, limits, lambda _outcome, _events: None)
        event = Prediction(signed, 1.7e9, [*bench.rows[0].values()], 5.5)
        one, many = (_append(spool, [event] * events, bench) for events in (1, _EVENTS))
        spool.close()
    return Section(
        "µs of processor time",
        [
            ["", "µs"],
            ["sign an id", number_text(sign)],
            ["verify an id", number_text(verify)],
            ["spool a lone event", number_text(one)],
            [f"spool an event of {_EVENTS} written together", number_text(many / _EVENTS)],
        ],
        [
            at_most("ids", "signing", sign, 5, " µs"),
            at_most("ids", "verifying", verify, 10, " µs"),
            at_most("export", "spooling a lone prediction", one, 10, " µs"),
        ],
    )


def _append(spool: Spool, events: list[Prediction], bench: Bench) -> float:
    return microseconds(lambda: spool.append(events), bench.rounds)
