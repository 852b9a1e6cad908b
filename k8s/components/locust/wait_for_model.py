# ruff: noqa: INP001, T201 a script in a ConfigMap that prints to its pod's log
"""Wait until the model that LOCUST_HOST names is ready; run before locust starts."""

import http.client
import os
import time
import urllib.request


def problem(url: str) -> str:
    """Return why a URL does not answer with a success, or nothing if it does."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 the address of the settings
            return ""
    except (OSError, http.client.HTTPException) as error:  # URLError or a timeout among others
        return str(error)


def wait(url: str, pause: float) -> None:
    """Return once the URL answers with a success; `pause` is in seconds."""
    said = ""
    while found := problem(url):
        if found != said:
            print(f"waiting for {url}: {found}", flush=True)
            said = found
        time.sleep(pause)


if __name__ == "__main__":
    wait(f"{os.environ['LOCUST_HOST'].rstrip('/')}/readyz", pause=1)
