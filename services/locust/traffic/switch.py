"""Switches the drift of running traffic in every process that sends it.

`./task drift` posts to locust's web server; a master forwards the switch to its workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import request

from traffic.errors import TrafficError

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from locust.runners import MasterRunner, WorkerRunner

    from traffic.drift import Drift

PATH = "/drift"
MESSAGE = "drift"


def add_route(app: Flask, drift: Drift, switched: Callable[[], None]) -> None:
    """Answer GET and POST `/drift`; a POST holds `{"mode": "drifted" | "gradual" | "off"}`."""

    def state() -> dict[str, Any]:
        return {"mode": drift.mode, "drifted_ratio": drift.share(), "seconds": drift.age}

    def switch() -> tuple[dict[str, Any], int]:
        body = request.get_json(silent=True)
        try:
            drift.switch(body.get("mode") if isinstance(body, dict) else None)
        except TrafficError as error:
            return {"detail": f"mode: {error}"}, 422
        switched()
        return state(), 200

    app.add_url_rule(PATH, "drift", state, methods=["GET"])
    app.add_url_rule(PATH, "switch_drift", switch, methods=["POST"])


def announce(drift: Drift, master: MasterRunner) -> None:
    """Send the drift to every worker."""
    master.send_message(MESSAGE, {"mode": drift.mode, "age": drift.age})


def follow(drift: Drift, worker: WorkerRunner) -> None:
    """Apply the master's announcements."""

    def switch(msg: Any, **_: object) -> None:  # noqa: ANN401 locust's message
        drift.switch(**msg.data)

    worker.register_message(MESSAGE, switch)
