"""Seeded mixed traffic with known faults."""

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

_PREDICT, _BATCH = "/predict", "/predict/batch"
_MAX_ROWS = 20
_SHARE_BATCHES, _SHARE_INVALID, _SHARE_UNKNOWN = 0.1, 0.2, 0.05
# Reconnecting this often distributes the requests over all workers.
_REQUESTS_PER_CONNECTION = 25
_CLIENTS = 8


@dataclass(frozen=True)
class MixedRequest:
    """A request with its rows if it is valid, else with the faults for which it is rejected.

    `unknown` is the number of undeclared fields, which the service ignores and counts.
    """

    path: str
    body: bytes
    rows: Sequence[Row] = ()
    faults: Sequence[Fault] = ()
    unknown: int = 0


@dataclass(frozen=True)
class Exchange:
    """A request and its response."""

    sent: MixedRequest
    status: int
    body: bytes


def mixed(count: int, rows: Sequence[Row], seed: int = 0) -> Iterator[MixedRequest]:
    """Yield requests with valid rows and batches, invalid values and unknown fields."""
    chance = random.Random(seed)  # noqa: S311 traffic, not a secret
    for _ in range(count):
        batch = chance.random() < _SHARE_BATCHES
        chosen = chance.choices(rows, k=chance.randint(1, _MAX_ROWS) if batch else 1)
        kind = chance.random()
        if kind < _SHARE_INVALID:
            yield _invalid(chance, chosen, batch=batch)
        elif kind < _SHARE_INVALID + _SHARE_UNKNOWN:
            undeclared: dict[str, Any] = {"color": "blue", "Färbung": 1}
            yield _valid(chosen, [{**row, **undeclared} for row in chosen], batch)
        else:
            yield _valid(chosen, chosen, batch)


def send(url: str, requests: Sequence[MixedRequest]) -> list[Exchange]:
    """Send requests on several concurrent connections; return the exchanges in order."""
    size = _REQUESTS_PER_CONNECTION
    parts = [requests[start : start + size] for start in range(0, len(requests), size)]
    with ThreadPoolExecutor(_CLIENTS) as clients:
        return [*chain.from_iterable(clients.map(lambda part: _send(url, part), parts))]


def _send(url: str, requests: Sequence[MixedRequest]) -> list[Exchange]:
    answers = []
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
        for each in requests:
            connection.request("POST", each.path, each.body, {"Content-Type": "application/json"})
            with connection.getresponse() as response:
                answers.append(Exchange(each, response.status, response.read()))
    return answers


def _valid(rows: Sequence[Row], sent: Sequence[Row], batch: bool) -> MixedRequest:  # noqa: FBT001
    unknown = sum(map(len, sent)) - sum(map(len, rows))
    path, body = _encode(sent, batch=batch)
    return MixedRequest(path, body, rows, unknown=unknown)


def _invalid(chance: random.Random, rows: Sequence[Row], *, batch: bool) -> MixedRequest:
    """Return a request with one fault in its last row, or with an invalid body."""
    if chance.random() < 0.2:  # noqa: PLR2004
        body, reason = chance.choice([(b"{", "malformed"), (b"", "empty"), (b"[]", "type")])
        return MixedRequest(_BATCH if batch else _PREDICT, body, faults=[("_body", reason)])
    name = chance.choice([*rows[-1]])
    corrupt, reason = chance.choice(_CORRUPTIONS)
    path, body = _encode([*rows[:-1], corrupt(rows[-1], name)], batch=batch)
    return MixedRequest(path, body, faults=[(name, reason)])


def _encode(rows: Sequence[Any], *, batch: bool) -> tuple[str, bytes]:
    body = {"instances": [*rows]} if batch else rows[0]
    return _BATCH if batch else _PREDICT, json.dumps(body).encode()


def _with(value: Any) -> Callable[[Row, str], dict[str, Any]]:  # noqa: ANN401 any JSON
    return lambda row, name: {**row, name: value}


_CORRUPTIONS: Sequence[tuple[Callable[[Row, str], dict[str, Any]], str]] = (
    (lambda row, name: {key: value for key, value in row.items() if key != name}, "missing"),
    (_with(None), "missing"),
    (_with("7"), "type"),
    (_with(True), "type"),  # noqa: FBT003
    (_with([1]), "type"),
    (_with(float("nan")), "not_finite"),
    (_with(float("inf")), "not_finite"),
    (_with(-0.5), "below"),
)
