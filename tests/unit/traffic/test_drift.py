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
def test_share_of_drifted_rows(mode: str, age: float, expected: float) -> None:
    """The share is constant, or grows linearly to 1 and stays there."""
    clock = Clock()
    drift = Drift(mode, 100.0, clock)
    clock.now += age

    assert expected == drift.share()


def test_gradual_drift_begins_at_the_switch() -> None:
    """However long the traffic has run before, the share starts at 0."""
    clock = Clock()
    drift = Drift("off", 100.0, clock)
    clock.now += 5_000
    drift.switch("gradual")

    assert drift.share() == 0


@pytest.mark.parametrize(
    ("rows", "mode"),
    [("held_out", "off"), ("drifted", "drifted"), ("gradual", "gradual"), ("a.csv", "off")],
)
def test_rows_choose_the_drift_of_the_start(rows: str, mode: str) -> None:
    """LOCUST_ROWS says how the traffic starts."""
    assert mode_of(rows) == mode


@pytest.mark.parametrize("mode", ["on", "", None, 1, ["off"]])
def test_unknown_mode_changes_nothing(mode: object) -> None:
    """The error lists what there is, and the drift stays as it was."""
    drift = Drift("drifted", 100.0, Clock())

    with pytest.raises(TrafficError, match="is none of off, drifted, gradual"):
        drift.switch(mode)
    assert drift.mode == "drifted"


def _web(drift: Drift, calls: list[str]) -> FlaskClient:
    app = Flask("test")
    add_route(app, drift, lambda: calls.append(drift.mode))
    return app.test_client()


def test_post_switches_and_get_shows() -> None:
    """Both answer the mode, its share and its age; a switch is announced once."""
    clock, calls = Clock(), list[str]()
    web = _web(Drift("off", 100.0, clock), calls)

    assert web.get("/drift").json == {"mode": "off", "drifted_ratio": 0.0, "seconds": 0.0}
    assert web.post("/drift", json={"mode": "gradual"}).status_code == 200
    clock.now += 50
    assert web.get("/drift").json == {"mode": "gradual", "drifted_ratio": 0.5, "seconds": 50.0}
    assert calls == ["gradual"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"drifted"', b"{}", b'{"mode": "on"}'])
def test_bad_switch_is_rejected(body: bytes) -> None:
    """It gets 422 with the reason, and nothing changes."""
    calls: list[str] = []
    drift = Drift("off", 100.0, Clock())
    answer = _web(drift, calls).post("/drift", data=body, content_type="application/json")

    assert answer.status_code == 422
    assert answer.json is not None
    assert answer.json["detail"].startswith("mode: ")
    assert (drift.mode, calls) == ("off", [])


def test_worker_takes_the_masters_drift_and_its_age() -> None:
    """A worker that connects late is as far in a gradual drift as the others."""
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
