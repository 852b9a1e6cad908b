"""The benchmark's arithmetic, load generators, ports and reference counts."""

import errno
import inspect
import json
import re
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from bench import __main__ as bench
from bench import ours
from bench.apps import constant, unmonitored
from bench.bench import Bench
from bench.clock import microseconds
from bench.groups.overhead import cost
from bench.groups.publishing import Mark, Speed, speed
from bench.groups.serving import ratio
from bench.groups.spooling import Rates, Turns, calm_quantile
from bench.machine import BenchError, Cores
from bench.ports import Ports
from bench.publisher import fill, require_client, unreachable_fiddler
from bench.reference import differences, expected
from bench.report import (
    END,
    START,
    Goal,
    Section,
    at_least,
    at_most,
    markdown,
    number_text,
    replace_between_markers,
)
from bench.steady import quantile, steady
from bench.traffic import Exchange, MixedRequest, mixed
from bench.wrk import Request, Throughput, parse
from bundle.arrays import Floats
from bundle.manifest import PREDICTION, Manifest
from serving.workers import worker
from tests.support.example import Row, held_out_rows, without_target
from tests.support.servers import serving
from tests.support.spool import lines


@pytest.fixture(name="inputs")
def _inputs(example_bundle: Path) -> list[Row]:
    return [without_target(row) for row in held_out_rows(example_bundle)[:50]]


def reported(**changes: float) -> str:
    """Return wrk's output with the results of its script."""
    found = {"requests": 3000, "microseconds": 1_500_000, "rejected": 0, "failed": 0, "p50": 800.0}
    return f"Running 1s test\n  Latency 1ms\n\n{json.dumps(found | changes)}\n"


def test_wrk_reports_a_rate_and_a_median() -> None:
    """The rate is computed with the measured duration, not with the requested one."""
    assert parse(reported()) == Throughput(2000.0, 0.0008)


@pytest.mark.parametrize(
    "output",
    ["", "unable to connect", reported(rejected=1), reported(failed=1), reported(requests=0)],
)
def test_a_rate_with_failed_requests_is_an_error(output: str) -> None:
    """A run of wrk with errors or without requests has no rate."""
    with pytest.raises(BenchError):
        parse(output)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """A round on a busy machine slows both servers but hardly changes their ratio."""
    rounds = {
        "a": [Throughput(100, 0), Throughput(20, 0), Throughput(120, 0)],
        "b": [Throughput(10, 0), Throughput(2, 0), Throughput(11, 0)],
    }

    assert ratio(rounds, "a", "b") == 10


def test_a_goal_is_met_at_its_limit() -> None:
    """Both kinds of goal include the limit."""
    assert at_least("1", "x", 20, 20).met
    assert not at_least("1", "x", 19.9, 20).met
    assert at_most("1", "x", 5, 5).met
    assert not at_most("1", "x", 5.1, 5).met


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.01234, "0.0123"),
        (1.0, "1.00"),
        (12.34, "12.3"),
        (123.4, "123"),
        (999.7, "1,000"),
        (15928.4, "15,928"),
    ],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    """Numbers of 1,000 or more are rounded to integers instead."""
    assert number_text(value) == text


def test_goals_of_all_groups_are_in_one_table() -> None:
    """The table follows the first group's figures and marks missed goals; other figures unfold."""
    sections = [
        Section("Speed", [["", "ms"], ["this", "3"]], [Goal("1", "fast", "3", met=True)]),
        Section("Size", goals=[Goal("8", "small", "300 MB", met=False)], notes=["Left out: it."]),
        Section("Load", [["", "%"], ["this", "7"]]),
    ]

    text = markdown(sections, ["2026"])

    first, _, others = text.partition("<details>")
    assert first.startswith("2026\n\n**Speed**\n\n|  | ms |\n| --- | --: |\n| this | 3 |\n")
    assert first.endswith("| 1 | fast | 3 | ok |\n| 8 | small | 300 MB | **missed** |\n\n")
    assert "Left out: it." in others
    assert others.endswith("| this | 7 |\n\n</details>\n")


def test_a_failing_group_does_not_affect_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other figures are printed, the error is a missed goal, and the exit code is 1."""

    def fail(_: object) -> Section:
        raise BenchError("wrk is missing")

    groups = {"one": lambda _: Section("One", [["", "ms"], ["this", "3"]]), "two": fail}
    monkeypatch.setattr(bench, "_GROUPS", groups)
    monkeypatch.setattr(bench, "prepared", lambda *_: nullcontext())
    monkeypatch.setattr(bench, "_head", list)
    monkeypatch.setattr("sys.argv", ["bench"])
    monkeypatch.setattr("signal.signal", lambda *_: None)

    assert bench.main() == 1
    output = capsys.readouterr().out
    assert "| this | 3 |" in output
    assert "| two | measured | wrk is missing | **missed** |" in output


def test_only_the_text_between_the_markers_is_replaced() -> None:
    """Replacing it twice gives the same document, and missing markers are an error."""
    document = f"before\n{START}\nold\n{END}\nafter\n"

    once = replace_between_markers(document, "new\n")

    assert once == f"before\n{START}\nnew\n{END}\nafter\n"
    assert once == replace_between_markers(once, "new\n")
    with pytest.raises(ValueError, match="bench:start"):
        replace_between_markers("no markers", "new")


@pytest.mark.parametrize("text", [None, "# No markers\n"])
def test_a_document_without_markers_is_rejected_before_measuring(
    text: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line names the file, and nothing has been measured."""
    file = tmp_path / "performance.md"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr("sys.argv", ["bench", "--write", str(file)])

    with pytest.raises(SystemExit):
        bench.main()
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(f"bench: error: argument --write: {file}")
    )


def test_a_quantile_is_the_median_of_the_rounds() -> None:
    """One disturbed round does not change the result."""
    assert quantile([np.array([1.0]), np.array([2.0]), np.array([90.0])], 0.99) == 2.0


def test_the_processor_time_of_a_call_is_measured() -> None:
    """A short computation takes more than 0 and less than a second."""
    assert 0 < microseconds(lambda: sum(range(1000)), 3, 0.01) < 1e6


class Handler(BaseHTTPRequestHandler):
    """Echoes the request's body; rejects the body `no`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer in two packets, as can happen in a network."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(422 if body == b"no" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:1])
        self.wfile.write(body[1:])

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(name="url")
def _url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}/predict"


def test_the_open_loop_sends_every_due_request(url: str) -> None:
    """There is one positive latency per scheduled request."""
    latencies = steady(Request(url, [b"yes", b"a" * 1000]), rate=200, seconds=0.25, connections=2)

    assert len(latencies) == 50
    assert (latencies > 0).all()


def test_the_open_loop_fails_on_a_rejected_request(url: str) -> None:
    """The error has the status of the response."""
    with pytest.raises(BenchError, match="422"):
        steady(Request(url, [b"no"]), rate=100, seconds=0.1, connections=1)


def test_latency_includes_the_wait_for_a_free_connection(url: str) -> None:
    """On one connection, the latencies of requests that are due at once increase."""
    latencies = steady(Request(url, [b"yes"]), rate=1e6, seconds=5e-5, connections=1)

    assert len(latencies) == 50
    assert (np.diff(latencies) > 0).all()


def test_mixed_traffic_is_deterministic_and_has_every_kind(inputs: list[Row]) -> None:
    """It has rows, batches, unknown fields, and every reason for which a value is rejected."""
    sent = [*mixed(2000, inputs)]

    reasons = {reason for each in sent for _, reason in each.faults}
    assert sent == [*mixed(2000, inputs)]
    assert {each.path for each in sent} == {"/predict", "/predict/batch"}
    assert {"missing", "type", "not_finite", "below", "malformed", "empty"} == reasons
    assert any(each.unknown for each in sent)
    assert not any(each.rows and each.faults for each in sent)


def answered(example: Manifest, row: Row, value: float = 5.5) -> Exchange:
    """Return the exchange of a predicted row."""
    body = json.dumps({example.target.name: value}).encode()
    return Exchange(MixedRequest("/predict", b"{}", [row]), 200, body)


def test_the_reference_counts_a_row_in_one_bin_of_each_signal(
    example: Manifest, inputs: list[Row]
) -> None:
    """A prediction is also counted in every histogram bucket above it."""
    counted = expected(example, [answered(example, inputs[0])])

    bins = {dict(key)["feature"] for name, key in counted if name == "model_feature_bin_total"}
    buckets = [v for (name, _), v in counted.items() if name == "model_prediction_value_bucket"]
    assert bins == {*inputs[0], PREDICTION}
    assert sum(buckets) == 21 + 1 - 11


def test_a_difference_of_one_is_found(example: Manifest, inputs: list[Row]) -> None:
    """A count that is too high, a missing series and an unexpected series are each reported."""
    wanted = expected(example, [answered(example, inputs[0])])
    assert not differences(wanted, wanted)
    assert not differences({**wanted, ("of_no_interest", frozenset()): 1.0}, wanted)

    for series, value in wanted.items():
        assert len(differences({**wanted, series: value + 1}, wanted)) == 1
        assert len(differences({k: v for k, v in wanted.items() if k != series}, wanted)) == 1
    other = ("model_feature_bin_total", frozenset({("feature", "ph"), ("bin", "98")}))
    assert len(differences({**wanted, other: 1.0}, wanted)) == 1


def turns(*seconds: float) -> list[Floats]:
    """Return turns in which every request took the same time."""
    return [np.full(100, each) for each in seconds]


def test_the_cost_of_monitoring_is_the_median_over_the_turns() -> None:
    """The rates of the two processes of each kind are averaged within a turn."""
    calm = [80.0, 90.0, 110.0, 100.0]
    assert cost([calm, calm, [10.0, 100.0, 100.0, 10.0]]) == pytest.approx(0.1)


def test_a_p99_with_a_spool_is_compared_with_both_processes_without() -> None:
    """Either process without a spool may be slower by chance, so both are the reference."""
    measured = Turns(1_000, turns(2, 2), turns(3, 3), turns(2, 2))

    assert measured.ratio == pytest.approx(1.5)


def test_noise_is_the_ratio_of_the_processes_without_a_spool() -> None:
    """The latencies with a spool do not affect the noise."""
    assert Turns(1_000, turns(2), turns(9), turns(3)).noise == pytest.approx(1.5)


def test_disturbed_windows_do_not_change_the_calm_quantile() -> None:
    """A quarter of undisturbed windows is enough; a long turn has several windows."""
    assert calm_quantile(turns(2, 2, 2, 90, 90, 90), 0.99) == 2
    assert calm_quantile([np.repeat([90.0, 2.0, 90.0], [400, 600, 200])], 0.99) == 2
    assert calm_quantile([np.repeat([90.0, 2.0], [800, 100])], 0.99) == 90
    assert calm_quantile([np.array([1.0, 3.0])], 0.5) == 2


def test_the_cost_of_spooling_is_the_additional_time_per_request() -> None:
    """25 µs per request instead of 20 µs is a cost of 5 µs."""
    assert Rates(off=50_000, on=40_000).cost == pytest.approx(5)
    assert Rates(off=50_000, on=40_000).ratio == pytest.approx(0.8)


def test_a_speed_is_computed_between_two_marks() -> None:
    """It is given per second of wall time and of processor time."""
    assert speed(Mark(1_000, 10.0, 2.0), Mark(6_000, 11.0, 2.5)) == Speed(5_000, 10_000)


def test_an_unreachable_fiddler_refuses_connections() -> None:
    """A connection fails at once instead of timing out."""
    with unreachable_fiddler() as url, socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", urlsplit(url).port)) == errno.ECONNREFUSED


def test_the_error_for_a_missing_client_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fiddler-client the error names the task that installs it."""
    monkeypatch.setattr("bench.publisher.find_spec", lambda _: None)

    with pytest.raises(BenchError, match=r"\./task deps:publisher"):
        require_client()


def test_a_reserved_port_can_be_served_but_not_taken() -> None:
    """Only a socket that sets SO_REUSEADDR and names the port can bind a reserved port."""
    with Ports() as ports, socket.socket() as other:
        port = ports.reserve()
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)) as server:
            socket.create_connection(server.getsockname()).close()


def test_reserved_ports_are_unique_until_they_are_released() -> None:
    """No port is reserved twice, and a port that is released can be bound by anyone."""
    with Ports() as ports:
        reserved = [ports.reserve() for _ in range(100)]

    assert len({*reserved}) == len(reserved)
    with socket.socket() as other:
        other.bind(("127.0.0.1", reserved[0]))


def test_the_route_variant_closes_the_fast_path(tmp_path: Path) -> None:
    """The variant through FastAPI's route differs from the service only by MODEL_FAST_PATH."""
    with Ports() as ports:
        bench_run = Bench(Cores(0, 1), ports, 1, 1, tmp_path, ())
        routed, monitored = ours.routed(bench_run), ours.monitored(bench_run)

    assert {*routed.environment} - {*monitored.environment} == {"MODEL_FAST_PATH"}
    assert routed.environment["MODEL_FAST_PATH"] == "false"
    assert routed.argv == monitored.argv


def test_a_filled_spool_has_a_label_for_every_other_prediction(
    tmp_path: Path, example: Manifest, inputs: list[Row]
) -> None:
    """Every label follows its prediction, and no prediction has two."""
    fill(tmp_path / "spool", example, inputs, predictions=100)

    events = lines(tmp_path / "spool")
    ids = [event["prediction_id"] for event in events if "prediction_id" in event]
    labelled = [event["label_of"] for event in events if "label_of" in event]
    assert len({*ids}) == 100
    assert labelled == ids[::2]
    assert [*events[0]["features"]] == [*inputs[0].values()]
    assert "label_of" in events[16]


def test_the_stand_ins_have_the_state_that_a_worker_uses(
    example_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or their worker falls silent, and the master kills it in the midst of a measurement."""
    monkeypatch.setenv("MODEL_BUNDLE", str(example_bundle))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setenv("MODEL_PREDICTION_KEYS", "k" * 32)
    used = set(re.findall(r"wsgi\.state\.(\w+)", inspect.getsource(worker)))

    for app in (constant.app, unmonitored.create_app()):
        assert [name for name in used if not hasattr(app.state, name)] == []
        app.state.catch_up()
        app.state.loop_lag.observe(0.0)
    assert "catch_up" in used
