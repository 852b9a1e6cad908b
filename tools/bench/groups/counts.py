"""After much mixed traffic, the metrics are what a slow reference counts."""

from urllib.request import urlopen

from bundle.load import load_manifest
from tools.bench import ours
from tools.bench.bench import Bench
from tools.bench.reference import differences, expected, growth, parse
from tools.bench.report import Goal, Section
from tools.bench.traffic import mixed, send

REQUESTS = 100_000
WORKERS = 3


def measure(bench: Bench) -> Section:
    """Measure whether anything is counted wrong."""
    server = ours.monitored(bench, WORKERS)
    with bench.running(server, bench.cores.both):
        # What the start has counted: its first prediction.
        before = _scrape(server.environment["MODEL_METRICS_PORT"])
        requests = [*mixed(REQUESTS, bench.rows)]
        answers = send(f"http://127.0.0.1:{server.port}", requests)
        after = _scrape(server.environment["MODEL_METRICS_PORT"])
    wanted = expected(load_manifest(bench.bundle), answers)
    wrong = differences(growth(after, before), wanted)
    what = f"series counted wrong in {REQUESTS:,} mixed requests to {WORKERS} workers"
    return Section(
        "Counts", goals=[Goal("", f"{what}: 0", str(len(wrong)), not wrong)], notes=wrong
    )


def _scrape(port: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return parse(answer.read().decode())
