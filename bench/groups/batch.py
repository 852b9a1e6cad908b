"""Rows per second through /predict/batch with 1,000 rows per request, including parsing."""

import json
from dataclasses import replace
from itertools import cycle, islice
from statistics import median

from bench import ours
from bench.bench import Bench
from bench.machine import pinned, require_wrk
from bench.report import Section, at_least
from bench.wrk import Request, wrk

ROWS = 1000
_CONNECTIONS = 4


def measure(bench: Bench) -> Section:
    """Measure rows per second."""
    require_wrk()
    body = json.dumps({"instances": [*islice(cycle(bench.rows), ROWS)]}).encode()
    server = ours.monitored(bench)
    request = Request(replace(server, path="/predict/batch").url, [body])
    with bench.running(server), pinned({bench.cores.loader}):
        wrk(request, 1, _CONNECTIONS)
        rates = [wrk(request, bench.seconds, _CONNECTIONS).rate * ROWS for _ in range(bench.rounds)]
    return Section(
        f"Batches of {ROWS:,} rows",
        goals=[at_least("batch", f"rows/s, {ROWS:,} per request", median(rates), 150_000)],
    )
