# ruff: noqa: INP001 a script in a ConfigMap
"""Hold the publisher's end up until the model has ended and its last events are at Fiddler.

Kubernetes runs it before it stops the publisher, and stops waiting when the pod's grace is over.
"""

import os
import socket
import time
import urllib.request

MODEL = ("127.0.0.1", 8000)
BACKLOG = "publisher_backlog_events"


def model_serves(address: tuple[str, int]) -> bool:
    """Tell whether somebody may still make predictions."""
    try:
        socket.create_connection(address, timeout=1).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True  # too busy to answer in time
    return True


def backlog(url: str) -> float:
    """Return the events that wait in the spool. Raises OSError, or ValueError without a figure."""
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 this pod itself
        lines = answer.read().decode().splitlines()
    return float(next((line.split()[1] for line in lines if line.startswith(f"{BACKLOG} ")), "?"))


def drain(model: tuple[str, int], metrics: str, pause: float) -> None:
    """Return when nothing is left to wait for; `pause` is in seconds."""
    while model_serves(model):
        time.sleep(pause)
    while True:
        try:
            if backlog(metrics) == 0:
                return
        except (OSError, ValueError):
            return  # without a publisher there is nobody to wait for
        time.sleep(pause)


if __name__ == "__main__":
    port = os.environ.get("PUBLISHER_METRICS_PORT", "9647")
    drain(MODEL, f"http://127.0.0.1:{port}/metrics", pause=0.5)
