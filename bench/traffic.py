"""Mixed traffic, seeded, of which it is known beforehand what is refused and why."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from bench.servers import Row

Fault = tuple[str, str]

_ONE, _MANY = "/predict", "/predict/batch"
_MOST_ROWS = 20
_SHARE_BATCHES, _SHARE_BAD, _SHARE_UNKNOWN = 0.1, 0.2, 0.05
# Connections are made anew so often that every worker gets some.
_REQUESTS_PER_CONNECTION = 25
_CLIENTS = 8


@dataclass(frozen=True)
class Sent:
    """One request: its rows where it is to be accepted, else the faults it is to be refused for.

    `unknown` fields are to be ignored, and counted.
    """

    path: str
    body: bytes
    rows: Sequence[Row] = ()
    faults: Sequence[Fault] = ()
    unknown: int = 0


@dataclass(frozen=True)
class Answered:
    """A request and its answer."""

    sent: Sent
    status: int
    body: bytes


def mixed(count: int, rows: Sequence[Row], seed: int = 0) -> Iterator[Sent]:
    """Return requests: good rows and batches, bad values of every kind, and unknown fields."""
    chance = random.Random(seed)  # noqa: S311 traffic, not a secret
    for _ in range(count):
        many = chance.random() < _SHARE_BATCHES
        chosen = chance.choices(rows, k=chance.randint(1, _MOST_ROWS) if many else 1)
        kind = chance.random()
        if kind < _SHARE_BAD:
            yield _bad(chance, chosen, many=many)
        elif kind < _SHARE_BAD + _SHARE_UNKNOWN:
            strange: dict[str, Any] = {"color": "red", "Färbung": 1}
            yield _good(chosen, [{**row, **strange} for row in chosen], many)
        else:
            yield _good(chosen, chosen, many)


def send(url: str, requests: Sequence[Sent]) -> list[Answered]:
    """Send requests on several connections at once; return them with their answers."""
    size = _REQUESTS_PER_CONNECTION
    parts = [requests[start : start + size] for start in range(0, len(requests), size)]
    with ThreadPoolExecutor(_CLIENTS) as clients:
        return [*chain.from_iterable(clients.map(lambda part: _send(url, part), parts))]


def _send(url: str, requests: Sequence[Sent]) -> list[Answered]:
    answers = []
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
        for each in requests:
            connection.request("POST", each.path, each.body, {"Content-Type": "application/json"})
            with connection.getresponse() as response:
                answers.append(Answered(each, response.status, response.read()))
    return answers


def _good(rows: Sequence[Row], written: Sequence[Row], many: bool) -> Sent:  # noqa: FBT001
    unknown = sum(map(len, written)) - sum(map(len, rows))
    path, body = _written(written, many=many)
    return Sent(path, body, rows, unknown=unknown)


def _bad(chance: random.Random, rows: Sequence[Row], *, many: bool) -> Sent:
    """Return a request with one fault in its last row, or with a body that is none."""
    if chance.random() < 0.2:  # noqa: PLR2004
        body, reason = chance.choice([(b"{", "malformed"), (b"", "empty"), (b"[]", "type")])
        return Sent(_MANY if many else _ONE, body, faults=[("_body", reason)])
    name = chance.choice([*rows[-1]])
    spoil, reason = chance.choice(_SPOILERS)
    path, body = _written([*rows[:-1], spoil(rows[-1], name)], many=many)
    return Sent(path, body, faults=[(name, reason)])


def _written(rows: Sequence[Any], *, many: bool) -> tuple[str, bytes]:
    body = {"instances": [*rows]} if many else rows[0]
    return _MANY if many else _ONE, json.dumps(body).encode()


def _with(value: Any) -> Callable[[Row, str], dict[str, Any]]:  # noqa: ANN401 any JSON
    return lambda row, name: {**row, name: value}


_SPOILERS: Sequence[tuple[Callable[[Row, str], dict[str, Any]], str]] = (
    (lambda row, name: {key: value for key, value in row.items() if key != name}, "missing"),
    (_with(None), "missing"),
    (_with("7"), "type"),
    (_with(True), "type"),  # noqa: FBT003
    (_with([1]), "type"),
    (_with(float("nan")), "not_finite"),
    (_with(float("inf")), "not_finite"),
    (_with(-0.5), "below"),
)
