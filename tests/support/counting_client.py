"""Ask the model for predictions until /tmp/stop is there, and print how many were answered.

Runs in a pod with the model's image: python counting_client.py URL kept|new
"""

import csv
import http.client
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

BUNDLE = Path("/srv/bundle")
STOP, STARTED = Path("/tmp/stop"), Path("/tmp/started")  # noqa: S108 a volume of the pod's own


def bodies(bundle: Path) -> Iterator[bytes]:
    """Yield the bundle's held-out rows as requests, again and again."""
    features = json.loads((bundle / "bundle.json").read_text())["features"]
    names = {feature["name"] for feature in features}
    with (bundle / "held_out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in itertools.cycle(rows):
        yield json.dumps({key: float(row[key]) for key in row if key in names}).encode()


def ask(connection: http.client.HTTPConnection, body: bytes) -> str:
    """Return the outcome of a request: its status, or the error without one."""
    try:
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()  # the next request opens another
        return type(error).__name__
    return str(answer.status)


def run(url: str, *, keep_alive: bool, bundle: Path, stop: Path, started: Path) -> Counter[str]:
    """Send requests until the file `stop` is there; return their number by outcome."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    outcomes: Counter[str] = Counter()
    for body in bodies(bundle):
        outcomes[ask(connection, body)] += 1
        if not keep_alive:
            connection.close()
        started.touch()
        if stop.exists():
            connection.close()
            return outcomes
    return outcomes


if __name__ == "__main__":
    counted = run(
        sys.argv[1], keep_alive=sys.argv[2] == "kept", bundle=BUNDLE, stop=STOP, started=STARTED
    )
    sys.stdout.write(json.dumps(counted) + "\n")
