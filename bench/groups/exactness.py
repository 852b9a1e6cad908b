"""Compiled trees predict exactly like the estimator, and metrics equal a slow reference."""

from collections.abc import Sequence
from urllib.request import urlopen

import numpy as np

from bench import ours
from bench.bench import Bench
from bench.reference import differences, expected, growth, parse
from bench.report import Goal, Section
from bench.rows import read_rows
from bench.servers import Row
from bench.traffic import mixed, send
from bundle.load import load_bundle, load_manifest
from bundle.manifest import DRIFTED_FILE, HELD_OUT_FILE, REFERENCE_FILE

REQUESTS = 100_000
WORKERS = 3


def measure(bench: Bench) -> Section:
    """Compare predictions with the estimator's, and metrics with the reference's."""
    rows = _bundled_rows(bench)
    difference = _largest_difference(bench, rows)
    wrong = _wrong_counts(bench)
    compiled = f"largest difference of compiled trees and estimator, {len(rows):,} rows = 0"
    counts = f"wrong series after {REQUESTS:,} mixed requests to {WORKERS} workers = 0"
    return Section(
        "Exactness",
        goals=[
            Goal("exactness", compiled, f"{difference:g}", difference == 0),
            Goal("exactness", counts, str(len(wrong)), not wrong),
        ],
        notes=wrong,
    )


def _bundled_rows(bench: Bench) -> list[Row]:
    """Return all rows of the bundle: training rows, held-out rows and drifted rows."""
    manifest = load_manifest(bench.bundle)
    files = (REFERENCE_FILE, HELD_OUT_FILE, DRIFTED_FILE)
    found = [bench.bundle / name for name in files if name in manifest.files]
    return [row for path in found for row in read_rows(path, manifest)]


def _largest_difference(bench: Bench, rows: Sequence[Row]) -> float:
    """Return the largest difference, predicting all rows at once and one at a time."""
    features = np.array([[*row.values()] for row in rows])
    compiled, plain = (load_bundle(each).model for each in (bench.bundle, bench.plain_bundle))
    values = features.tolist()
    estimated = plain.predict(values, features)
    together = compiled.predict(values, features)
    alone = np.concatenate([compiled.predict([row], np.array([row])) for row in values])
    return float(np.abs([together - estimated, alone - estimated]).max())


def _wrong_counts(bench: Bench) -> list[str]:
    """Describe the series that differ from the reference."""
    server = ours.monitored(bench, WORKERS)
    with bench.running(server, bench.cores.both):
        # The prediction that checks that the server is ready has been counted already.
        before = _scrape(server.environment["MODEL_METRICS_PORT"])
        answers = send(f"http://127.0.0.1:{server.port}", [*mixed(REQUESTS, bench.rows)])
        after = _scrape(server.environment["MODEL_METRICS_PORT"])
    wanted = expected(load_manifest(bench.bundle), answers)
    return differences(growth(after, before), wanted)


def _scrape(port: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return parse(answer.read().decode())
