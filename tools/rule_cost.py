"""What the rules cost: a real Prometheus with them beside one without; both scrape made-up pods.

`--features 200 --pods 10 --versions 2` is the large case of docs/drift.md; the default is the
example: 12 signals of one model on one pod.
"""

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from tools import ROOT

RULES = ROOT / "prometheus" / "rules" / "*.yml"
BINS = 10
PAIRS = 20
ROWS_A_SECOND = 20
MINUTE, DAY = 60, 86_400
START = time.time()

# Groups are evaluated every minute, every third or every fourth one: so each has its share.
MINUTES = 12
# The median of the evaluations: one of them is as slow as the machine is busy.
DURATION = f"quantile_over_time(0.5, prometheus_rule_group_last_duration_seconds[{MINUTES}m])"
# In seconds a minute. Unlike durations, it does not depend on what else the machine does.
CPU = f"60 * rate(process_cpu_seconds_total[{MINUTES}m])"
COUNTS = {
    "series scraped": 'sum(scrape_samples_scraped{job="model"})',
    "series recorded": 'count({__name__=~".+:.+"})',
    "series in all": "prometheus_tsdb_head_series",
}
DIFFERENCE = """
  max(abs(
      sum without (counter, window) (
        sum_over_time(model:increase{window="1m",counter="feature_bin"}[2m30s])
      )
    -
      sum by (job, model, version, feature, bin) (
        model_feature_bin_total offset 15s - model_feature_bin_total offset 3m15s
      )
  ))
"""


@dataclass(frozen=True)
class Size:
    """How much is served."""

    features: int
    pods: int
    versions: int


def exposition(size: Size, seconds: float, version: int) -> Iterator[str]:
    """Yield the lines of one pod of one version, `seconds` after it started."""
    labels = f'model="synthetic",version="v{version}"'
    rows = int(ROWS_A_SECOND * seconds)
    yield "# TYPE model_info gauge"
    yield f"model_info{{{labels}}} 1"
    yield f"model_start_time_seconds{{{labels}}} {START:.3f}"
    yield "# TYPE model_predictions_total counter"
    yield f"model_predictions_total{{{labels}}} {rows}"
    for feature in range(size.features):
        yield from _feature(f'{labels},feature="f{feature:03}"', rows)
    for number in range(min(PAIRS, size.features - 1)):
        yield from _pair(labels, number, rows)


def _pair(labels: str, number: int, rows: int) -> Iterator[str]:
    features = f"f{number:03}", f"f{number + 1:03}"
    pair = f'{labels},pair="{" and ".join(features)}"'
    yield f"model_feature_pair_total{{{pair}}} {rows}"
    for sign, share in (("pos", 0.8), ("neg", 0.2)):
        yield f'model_feature_pair_zscore_sum_total{{{pair},sign="{sign}"}} {share * rows}'
    for feature in features:
        member = f'{pair},feature="{feature}"'
        yield f"model_feature_pair_reference_correlation{{{member}}} 0.6"
    yield f"model_feature_pair_reference_variance{{{pair}}} 0.41"
    yield f"model_feature_pair_reference_rows{{{pair}}} 1282"


def _feature(labels: str, rows: int) -> Iterator[str]:
    for index in range(BINS):
        bin_ = f'{labels},bin="{index:02}"'
        yield f"model_feature_bin_total{{{bin_}}} {(rows + index) // BINS}"
        yield f'model_feature_reference_ratio{{{bin_},range="bin {index}"}} {1 / BINS}'
    yield f"model_feature_reference_rows{{{labels}}} 1282"
    yield f"model_feature_reference_kurtosis{{{labels}}} 3"
    for sign in ("pos", "neg"):
        yield f'model_feature_zscore_sum_total{{{labels},sign="{sign}"}} {0.4 * rows}'
    yield f"model_feature_zscore_squared_sum_total{{{labels}}} {rows}"
    for side in ("below", "above"):
        yield f'model_feature_out_of_range_total{{{labels},side="{side}"}} {rows // 1000}'
    for reason in ("missing", "type", "not_finite", "below", "above", "not_allowed"):
        rejected = labels.replace("feature=", "field=")
        yield f'model_input_rejected_total{{{rejected},reason="{reason}"}} {rows // 2000}'


@contextmanager
def exporter(size: Size) -> Iterator[int]:
    """Serve /v<version>/… on a free port; yield the port."""
    start = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            version = int(self.path.removeprefix("/v").split("/")[0])
            lines = exposition(size, time.monotonic() - start, version)
            body = "\n".join(lines).encode() + b"\n"
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def configure(folder: Path, size: Size, exporter_port: int, port: int, rules: list[Path]) -> None:
    """Write prometheus.yml: the rules, this size's pods, and Prometheus itself."""
    pods = [
        {
            "job_name": f"pod-{version}-{pod}",
            "metrics_path": f"/v{version}/metrics",
            "static_configs": [
                {
                    "targets": [f"127.0.0.1:{exporter_port}"],
                    "labels": {"job": "model", "instance": f"{version}-{pod}", "pod": f"{pod}"},
                }
            ],
        }
        for version in range(size.versions)
        for pod in range(size.pods)
    ]
    itself = {"job_name": "itself", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    config = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": [str(each) for each in rules],
        "scrape_configs": [*pods, itself],
    }
    # JSON is YAML.
    (folder / "prometheus.yml").write_text(json.dumps(config))


@contextmanager
def prometheus(folder: Path, port: int) -> Iterator[str]:
    """Run a Prometheus on `folder`; yield its address."""
    address = f"127.0.0.1:{port}"
    command = [
        _require("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        # The backfilled day overlaps nothing, but is older than the head.
        "--storage.tsdb.retention.time=2d",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://{address}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def backfill(folder: Path, size: Size, now: int) -> None:
    """Record the day before `now` (seconds), so that the 1 d windows are full from the start."""
    minutes = range(now - DAY, now, MINUTE)
    with (folder / "day.txt").open("w") as file:
        for name, series in _recorded(size):
            file.write(f"# TYPE {name} gauge\n")
            for labels, value in series:
                sample = f'{name}{{job="model",{labels}}} {value}'
                file.write("".join(f"{sample} {minute}\n" for minute in minutes))
        file.write("# EOF\n")
    subprocess.run(
        [
            *(_require("promtool"), "tsdb", "create-blocks-from", "openmetrics"),
            *("--max-block-duration=24h", "--quiet", folder / "day.txt", folder / "data"),
        ],
        check=True,
    )


def _recorded(size: Size) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Yield what the windows, and the references to yesterday, read of the day before."""
    rows = MINUTE * ROWS_A_SECOND * size.pods
    signals = [*_signals(size)]
    bins = [f'bin="{index:02}"' for index in range(BINS)]
    counters = [
        *((f'counter="feature_bin",{bin_}', rows / BINS) for bin_ in bins),
        *((f'counter="feature_zscore_sum",sign="{sign}"', 0.4 * rows) for sign in ("pos", "neg")),
        ('counter="feature_zscore_squared_sum"', rows),
        *((f'counter="feature_out_of_range",side="{side}"', 0) for side in ("below", "above")),
    ]
    yield (
        "model:increase",
        [(f'window="1m",{each},{more}', value) for each in signals for more, value in counters],
    )
    yield "model_feature:minute_variation", [(each, BINS - 1) for each in signals]
    yield (
        "model_feature_bin:ratio",
        [(f'window="1h",{each},{bin_}', 1 / BINS) for each in signals for bin_ in bins],
    )
    yield "model_feature:effective_rows", [(f'window="1h",{each}', 60 * rows) for each in signals]
    training = 'window="1h",reference="training"'
    yield "model_feature:mean_shift_sigma", [(f"{training},{each}", 0) for each in signals]
    yield "model_feature:variance_ratio", [(f"{training},{each}", 1) for each in signals]


def _signals(size: Size) -> Iterator[str]:
    for version in range(size.versions):
        for feature in range(size.features):
            yield f'model="synthetic",version="v{version}",feature="f{feature:03}"'


def report(address: str, without_rules: str) -> Iterator[str]:
    """Yield one line per figure of the Prometheus with rules, and what it needs more CPU for."""
    for what, query in COUNTS.items():
        yield f"{what}: {_number(address, query):,.0f}"
    evaluated = _number(address, "max(timestamp(model:increase{window='1m'}))")
    difference = _number(address, DIFFERENCE, evaluated)
    yield f"rows of 3 minutes that the rules count and the counters do not: {difference:g}"
    for group in _ask(address, f"sort_desc({DURATION})"):
        name = group["metric"]["rule_group"].rpartition(";")[2]
        yield f"{name}: {1000 * float(group['value'][1]):.1f} ms an evaluation"
    for rule in sorted(_rules(address), key=itemgetter("evaluationTime"), reverse=True)[:12]:
        yield f"  {rule['name']}: {1000 * rule['evaluationTime']:.1f} ms"
    a_minute = _number(address, f"60 * sum({DURATION} / prometheus_rule_group_interval_seconds)")
    yield f"all groups: {1000 * a_minute:,.0f} ms a minute"
    cpu = _number(address, CPU) - _number(without_rules, CPU)
    yield f"CPU of the rules: {1000 * cpu:,.0f} ms a minute"


def _number(address: str, query: str, time: float | None = None) -> float:
    [found] = _ask(address, query, time)
    return float(found["value"][1])


def _ask(address: str, query: str, time: float | None = None) -> list[Any]:
    """Return the result of an instant query, now or at a time (seconds)."""
    words = {"query": query} | ({} if time is None else {"time": str(time)})
    with urlopen(f"{address}/api/v1/query?{urlencode(words)}") as answer:  # noqa: S310 our own
        result: list[Any] = json.load(answer)["data"]["result"]
    return result


def _rules(address: str) -> list[Any]:
    with urlopen(f"{address}/api/v1/rules") as answer:  # noqa: S310 our own
        groups = json.load(answer)["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _require(program: str) -> str:
    return shutil.which(program) or sys.exit(f"rule_cost: there is no {program} on PATH")


def main(arguments: Sequence[str]) -> None:
    """Serve, scrape, wait, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    for name, default in (("features", 12), ("pods", 1), ("versions", 1)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    options = parser.parse_args(arguments)
    size = Size(options.features, options.pods, options.versions)
    with exporter(size) as target, ExitStack() as stack:
        with_rules, without = (
            stack.enter_context(scraping(size, target, rules)) for rules in ([RULES], [])
        )
        # Real minutes, as nothing makes a group hurry. The first ones are not like the others.
        time.sleep(MINUTE * (MINUTES + 2))
        for line in report(with_rules, without):
            print(line)


@contextmanager
def scraping(size: Size, exporter_port: int, rules: list[Path]) -> Iterator[str]:
    """Run a Prometheus that has a day behind it and scrapes the pods; yield its address."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), _free_port()
        configure(folder, size, exporter_port, port, rules)
        backfill(folder, size, int(time.time()))
        with prometheus(folder, port) as address:
            yield address


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main(sys.argv[1:])
