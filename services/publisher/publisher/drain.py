"""Delay the stop of the publisher until the model has stopped and its last events are published.

The preStop hook of a publisher in the model's pod runs `python -m publisher.drain`; the pod's
termination grace period limits it.
"""

import os
import re
import socket
import time
import urllib.request

MODEL = ("127.0.0.1", 8000)
BACKLOG = "publisher_backlog_events"
STOPPED = "publisher_stopped"
# One scrape more, so that Prometheus sees an empty backlog, and not events lost with the pod.
LAST_SCRAPE = 20.0


def model_serves(address: tuple[str, int]) -> bool:
    """Return whether the model may still accept requests."""
    try:
        socket.create_connection(address, timeout=1).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True  # too busy to accept the connection in time
    return True


def sample(lines: list[str], family: str) -> float:
    """Return the sum of a family's samples. Raises ValueError if it is missing."""
    values = [line.split()[-1] for line in lines if re.split(r"[{ ]", line)[0] == family]
    return sum(map(float, values)) if values else float("?")


def finished(url: str) -> bool:
    """Return whether the publisher will publish nothing more. Raises OSError or ValueError.

    Once it has stopped, its next try is later than the end of the grace period.
    """
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 this pod itself
        lines = answer.read().decode().splitlines()
    return sample(lines, BACKLOG) == 0 or sample(lines, STOPPED) > 0


def drain(
    model: tuple[str, int], metrics: str, pause: float, last_scrape: float = LAST_SCRAPE
) -> None:
    """Wait for the model to stop and the backlog to be empty; times are in seconds."""
    while model_serves(model):
        time.sleep(pause)
    while True:
        try:
            if finished(metrics):
                break
        except (OSError, ValueError):
            return  # the publisher is gone, so nothing more will be published
        time.sleep(pause)
    time.sleep(last_scrape)


if __name__ == "__main__":
    port = os.environ.get("PUBLISHER_METRICS_PORT", "9647")
    drain(MODEL, f"http://127.0.0.1:{port}/metrics", pause=0.5)
