# ruff: noqa: INP001 a script in a ConfigMap
"""Delay the stop of the publisher until the model has stopped and its last events are published.

The publisher's preStop hook runs this script; it is limited by the pod's termination grace period.
"""

import os
import socket
import time
import urllib.request

MODEL = ("127.0.0.1", 8000)
BACKLOG = "publisher_backlog_events"


def model_serves(address: tuple[str, int]) -> bool:
    """Return whether the model may still accept requests."""
    try:
        socket.create_connection(address, timeout=1).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True  # too busy to accept the connection in time
    return True


def backlog(url: str) -> float:
    """Return the number of unpublished events. Raises OSError, or ValueError if it is missing."""
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 this pod itself
        lines = answer.read().decode().splitlines()
    return float(next((line.split()[1] for line in lines if line.startswith(f"{BACKLOG} ")), "?"))


def drain(model: tuple[str, int], metrics: str, pause: float) -> None:
    """Wait for the model to stop and the backlog to be empty; `pause` is in seconds."""
    while model_serves(model):
        time.sleep(pause)
    while True:
        try:
            if backlog(metrics) == 0:
                return
        except (OSError, ValueError):
            return  # the publisher is gone, so nothing more will be published
        time.sleep(pause)


if __name__ == "__main__":
    port = os.environ.get("PUBLISHER_METRICS_PORT", "9647")
    drain(MODEL, f"http://127.0.0.1:{port}/metrics", pause=0.5)
