"""The drift of running traffic."""

from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from traffic.drift import Drift, mode_of
from traffic.errors import TrafficError
from traffic.switch import MESSAGE, add_route, announce, follow


class Clock:
    """A clock that a test sets."""

    now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.mark.parametrize(
    ("mode", "age", "expected"),
    [
        ("off", 1e9, 0.0),
        ("drifted", 0.0, 1.0),
        ("gradual", 0.0, 0.0),
        ("gradual", 25.0, 0.25),
        ("gradual", 100.0, 1.0),
        ("gradual", 1e9, 1.0),
    ],
)
def test_the_share_is_constant_or_grows_linearly(mode: str, age: float, expected: float) -> None:
    """A gradual drift grows to 1 and remains there."""
    clock = Clock()
    drift = Drift(mode, 100.0, clock)
    clock.now += age

    assert expected == drift.share()


def test_a_gradual_drift_starts_at_the_switch() -> None:
    """The share starts at 0, however long the traffic has run."""
    clock = Clock()
    drift = Drift("off", 100.0, clock)
    clock.now += 5_000
    drift.switch("gradual")

    assert drift.share() == 0


@pytest.mark.parametrize(
    ("rows", "mode"),
    [("held_out", "off"), ("drifted", "drifted"), ("gradual", "gradual"), ("a.csv", "off")],
)
def test_the_rows_setting_defines_the_initial_drift(rows: str, mode: str) -> None:
    """A file starts without drift."""
    assert mode_of(rows) == mode


@pytest.mark.parametrize("mode", ["on", "", None, 1, ["off"]])
def test_an_unknown_mode_changes_nothing(mode: object) -> None:
    """The error lists the modes."""
    drift = Drift("drifted", 100.0, Clock())

    with pytest.raises(TrafficError, match="is none of off, drifted, gradual"):
        drift.switch(mode)
    assert drift.mode == "drifted"


def _web(drift: Drift, calls: list[str]) -> FlaskClient:
    app = Flask("test")
    add_route(app, drift, lambda: calls.append(drift.mode))
    return app.test_client()


def test_post_switches_the_drift_and_get_returns_it() -> None:
    """Both return mode, share and age; a switch is announced once."""
    clock, calls = Clock(), list[str]()
    web = _web(Drift("off", 100.0, clock), calls)

    assert web.get("/drift").json == {"mode": "off", "drifted_ratio": 0.0, "seconds": 0.0}
    assert web.post("/drift", json={"mode": "gradual"}).status_code == 200
    clock.now += 50
    assert web.get("/drift").json == {"mode": "gradual", "drifted_ratio": 0.5, "seconds": 50.0}
    assert calls == ["gradual"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"drifted"', b"{}", b'{"mode": "on"}'])
def test_an_invalid_switch_is_rejected(body: bytes) -> None:
    """The answer is 422 with the reason, and nothing changes."""
    calls: list[str] = []
    drift = Drift("off", 100.0, Clock())
    answer = _web(drift, calls).post("/drift", data=body, content_type="application/json")

    assert answer.status_code == 422
    assert answer.json is not None
    assert answer.json["detail"].startswith("mode: ")
    assert (drift.mode, calls) == ("off", [])


def test_a_worker_adopts_the_masters_drift_and_its_age() -> None:
    """A worker that connects late has the same share of drifted rows as the others."""
    sent: dict[str, Any] = {}
    listeners: dict[str, Any] = {}
    master: Any = SimpleNamespace(send_message=lambda kind, data: sent.update({kind: data}))
    worker: Any = SimpleNamespace(register_message=listeners.__setitem__)
    clock = Clock()
    theirs, ours = Drift("gradual", 100.0, clock), Drift("off", 100.0, Clock())
    follow(ours, worker)

    clock.now += 40
    announce(theirs, master)
    listeners[MESSAGE](msg=SimpleNamespace(data=sent[MESSAGE]), environment=None)
    assert (ours.mode, ours.share()) == ("gradual", 0.4)
