"""The benchmark's own arithmetic, and that its reference notices a single wrong count."""

import errno
import json
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import numpy as np
import pytest

from bench import __main__ as bench
from bench.clock import microseconds
from bench.groups.overhead import cost
from bench.groups.publishing import Mark, Speed, speed
from bench.groups.serving import ratio
from bench.groups.spooling import Rates, Turns, calm
from bench.machine import BenchError
from bench.publisher import fill, refusing, require_client
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
from bench.traffic import Answered, Sent, mixed
from bench.wrk import Answered as Rate
from bench.wrk import Request, parse
from bundle.arrays import Floats
from bundle.manifest import PREDICTION, Manifest
from tests.support.example import Row, held_out_rows, without_target
from tests.support.spool import lines


@pytest.fixture(name="inputs")
def _inputs(example_bundle: Path) -> list[Row]:
    return [without_target(row) for row in held_out_rows(example_bundle)[:50]]


def reported(**changes: float) -> str:
    """Return wrk's output when its script has reported this."""
    found = {"requests": 3000, "microseconds": 1_500_000, "refused": 0, "broken": 0, "p50": 800.0}
    return f"Running 1s test\n  Latency 1ms\n\n{json.dumps(found | changes)}\n"


def test_wrk_reports_a_rate_and_a_median() -> None:
    """Requests over the time it really took, which is not what was asked for."""
    assert parse(reported()) == Rate(2000.0, 0.0008)


@pytest.mark.parametrize(
    "output",
    ["", "unable to connect", reported(refused=1), reported(broken=1), reported(requests=0)],
)
def test_a_rate_of_refusals_is_none(output: str) -> None:
    """A server that answers errors is quick, and not to be compared."""
    with pytest.raises(BenchError):
        parse(output)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """A round in which the machine was busy slows both, and their ratio hardly."""
    rounds = {
        "a": [Rate(100, 0), Rate(20, 0), Rate(120, 0)],
        "b": [Rate(10, 0), Rate(2, 0), Rate(11, 0)],
    }

    assert ratio(rounds, "a", "b") == 10


def test_a_goal_is_met_at_its_very_limit() -> None:
    """At least means at least."""
    assert at_least("1", "x", 20, 20).met
    assert not at_least("1", "x", 19.9, 20).met
    assert at_most("1", "x", 5, 5).met
    assert not at_most("1", "x", 5.1, 5).met


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1.0, "1.00"), (12.34, "12.3"), (123.4, "123"), (15928.4, "15,928")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    """More would be noise."""
    assert number_text(value) == text


def test_goals_of_all_groups_stand_in_one_table() -> None:
    """Behind the first group's figures, with a missed one marked; the other figures unfold."""
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


def test_a_group_that_fails_leaves_the_others_their_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says why, and the whole is no success."""

    def fail(_: object) -> Section:
        raise BenchError("wrk is missing")

    groups = {"one": lambda _: Section("One", [["", "ms"], ["this", "3"]]), "two": fail}
    monkeypatch.setattr(bench, "_GROUPS", groups)
    monkeypatch.setattr(bench, "prepared", lambda *_: nullcontext())
    monkeypatch.setattr(bench, "_head", list)
    monkeypatch.setattr("sys.argv", ["bench"])
    monkeypatch.setattr("signal.signal", lambda *_: None)

    assert bench.main() == 1
    said = capsys.readouterr().out
    assert "| this | 3 |" in said
    assert "| two | measured | wrk is missing | **missed** |" in said


def test_only_what_lies_between_the_markers_is_replaced() -> None:
    """Twice gives the same document."""
    document = f"before\n{START}\nold\n{END}\nafter\n"

    once = replace_between_markers(document, "new\n")

    assert once == f"before\n{START}\nnew\n{END}\nafter\n"
    assert once == replace_between_markers(once, "new\n")
    with pytest.raises(ValueError, match="bench:start"):
        replace_between_markers("no markers", "new")


def test_a_quantile_is_the_median_of_the_rounds() -> None:
    """One round that was disturbed does not count."""
    assert quantile([np.array([1.0]), np.array([2.0]), np.array([90.0])], 0.99) == 2.0


def test_a_call_takes_time() -> None:
    """Processor time, of whatever is called."""
    assert 0 < microseconds(lambda: sum(range(1000)), 3, 0.01) < 1e6


class Handler(BaseHTTPRequestHandler):
    """Answers what it was asked; refuses `no`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer in two parts, as networks do."""
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
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/predict"
        server.shutdown()
        thread.join()


def test_the_steady_loader_sends_as_many_as_were_due(url: str) -> None:
    """Each request has a latency, the first as well as the last."""
    latencies = steady(Request(url, [b"yes", b"a" * 1000]), rate=200, seconds=0.25, connections=2)

    assert len(latencies) == 50
    assert (latencies > 0).all()


def test_the_steady_loader_takes_no_refusal(url: str) -> None:
    """It says what it got."""
    with pytest.raises(BenchError, match="422"):
        steady(Request(url, [b"no"]), rate=100, seconds=0.1, connections=1)


def test_waiting_for_a_free_connection_is_latency(url: str) -> None:
    """On one connection, requests that are all due at once wait for each other."""
    latencies = steady(Request(url, [b"yes"]), rate=1e6, seconds=5e-5, connections=1)

    assert len(latencies) == 50
    assert (np.diff(latencies) > 0).all()


def test_mixed_traffic_has_every_kind_and_is_the_same_each_time(inputs: list[Row]) -> None:
    """Rows, batches, unknown fields, and every reason that a bad value can have."""
    sent = [*mixed(2000, inputs)]

    reasons = {reason for each in sent for _, reason in each.faults}
    assert sent == [*mixed(2000, inputs)]
    assert {each.path for each in sent} == {"/predict", "/predict/batch"}
    assert {"missing", "type", "not_finite", "below", "malformed", "empty"} == reasons
    assert any(each.unknown for each in sent)
    assert not any(each.rows and each.faults for each in sent)


def answered(example: Manifest, row: Row, value: float = 5.5) -> Answered:
    """Return a row that was predicted."""
    body = json.dumps({example.target.name: value}).encode()
    return Answered(Sent("/predict", b"{}", [row]), 200, body)


def test_the_reference_counts_a_row_in_one_bin_of_each_signal(
    example: Manifest, inputs: list[Row]
) -> None:
    """And in every bucket above its prediction."""
    counted = expected(example, [answered(example, inputs[0])])

    bins = {dict(key)["feature"] for name, key in counted if name == "model_feature_bin_total"}
    buckets = [v for (name, _), v in counted.items() if name == "model_prediction_value_bucket"]
    assert bins == {*inputs[0], PREDICTION}
    assert sum(buckets) == 21 + 1 - 11


def test_a_difference_of_one_is_noticed(example: Manifest, inputs: list[Row]) -> None:
    """Too many, too few, missing, or where nothing should be."""
    wanted = expected(example, [answered(example, inputs[0])])
    assert not differences(wanted, wanted)
    assert not differences({**wanted, ("of_no_interest", frozenset()): 1.0}, wanted)

    for series, value in wanted.items():
        assert len(differences({**wanted, series: value + 1}, wanted)) == 1
        assert len(differences({k: v for k, v in wanted.items() if k != series}, wanted)) == 1
    other = ("model_feature_bin_total", frozenset({("feature", "ph"), ("bin", "98")}))
    assert len(differences({**wanted, other: 1.0}, wanted)) == 1


def turns(*seconds: float) -> list[Floats]:
    """Return turns in which every request took the same."""
    return [np.full(100, each) for each in seconds]


def test_what_monitoring_costs_is_the_median_of_the_turns() -> None:
    """Two processes of each count as one; a turn that others disturbed counts as any other."""
    calm = [80.0, 90.0, 110.0, 100.0]
    assert cost([calm, calm, [10.0, 100.0, 100.0, 10.0]]) == pytest.approx(0.1)


def test_a_p99_with_a_spool_is_held_against_both_without() -> None:
    """One process without a spool may be the slower one by chance."""
    measured = Turns(1_000, turns(2, 2), turns(3, 3), turns(2, 2))

    assert measured.ratio == pytest.approx(1.5)


def test_noise_is_what_differs_without_a_spool() -> None:
    """What a spool costs is no noise."""
    assert Turns(1_000, turns(2), turns(9), turns(3)).noise == pytest.approx(1.5)


def test_windows_that_others_have_disturbed_do_not_count() -> None:
    """As long as a quarter of them is left; a turn of many requests has many windows."""
    assert calm(turns(2, 2, 2, 90, 90, 90), 0.99) == 2
    assert calm([np.repeat([90.0, 2.0, 90.0], [400, 600, 200])], 0.99) == 2
    assert calm([np.repeat([90.0, 2.0], [800, 100])], 0.99) == 90
    assert calm([np.array([1.0, 3.0])], 0.5) == 2


def test_spooling_costs_what_a_request_takes_longer() -> None:
    """25 µs instead of 20 µs are 5 µs."""
    assert Rates(off=50_000, on=40_000).cost == pytest.approx(5)
    assert Rates(off=50_000, on=40_000).ratio == pytest.approx(0.8)


def test_a_speed_is_of_what_arrived_between_two_marks() -> None:
    """By the clock, and by the processor time that the publisher has had in between."""
    assert speed(Mark(1_000, 10.0, 2.0), Mark(6_000, 11.0, 2.5)) == Speed(5_000, 10_000)


def test_a_fiddler_that_is_down_refuses_connections() -> None:
    """It does not let them wait."""
    with refusing() as url, socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", urlsplit(url).port)) == errno.ECONNREFUSED


def test_a_missing_client_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who uses Fiddler has it."""
    monkeypatch.setattr("bench.publisher.find_spec", lambda _: None)

    with pytest.raises(BenchError, match=r"\./task deps:publisher"):
        require_client()


def test_a_filled_spool_has_a_label_for_every_other_prediction(
    tmp_path: Path, example: Manifest, inputs: list[Row]
) -> None:
    """Each behind its prediction, and none for two."""
    fill(tmp_path / "spool", example, inputs, predictions=100)

    events = lines(tmp_path / "spool")
    ids = [event["prediction_id"] for event in events if "prediction_id" in event]
    labelled = [event["label_of"] for event in events if "label_of" in event]
    assert len({*ids}) == 100
    assert labelled == ids[::2]
    assert [*events[0]["features"]] == [*inputs[0].values()]
    assert "label_of" in events[16]
