"""Ids are remembered once, by all workers of a service, within bounded memory."""

import multiprocessing
import os
from pathlib import Path

import pytest

from serving import seen_ids
from serving.seen_ids import SeenIds

PROCESSES = 4
IDS = 2_000


def nonce(number: int) -> bytes:
    """Return one of many different ids."""
    return number.to_bytes(8, "big")


def test_an_id_is_new_once() -> None:
    """Whatever its bytes are; those of 0 as well."""
    seen = SeenIds()
    ids = [nonce(0), nonce(2**64 - 1), b"12345678", *(os.urandom(8) for _ in range(100))]

    assert [seen.add(each) for each in ids] == [True] * len(ids)
    assert [seen.add(each) for each in ids] == [False] * len(ids)


def test_workers_share_their_ids(tmp_path: Path) -> None:
    """An id that one worker has seen is known to another, and to one that starts later."""
    one, other = SeenIds(tmp_path), SeenIds(tmp_path)

    assert one.add(b"a" * 8)
    assert not other.add(b"a" * 8)
    assert not SeenIds(tmp_path).add(b"a" * 8)


def accepted(directory: Path) -> int:
    """Return how many of the same ids a process is the first to add."""
    seen = SeenIds(directory)
    return sum(seen.add(nonce(number)) for number in range(1, IDS + 1))


def test_of_several_processes_one_is_the_first(tmp_path: Path) -> None:
    """They add the same ids at the same time."""
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        counts = pool.map(accepted, [tmp_path] * PROCESSES)

    assert sum(counts) == IDS


def test_the_last_ids_are_remembered_and_old_ones_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At least the last CAPACITY ids, at most twice as many."""
    monkeypatch.setattr(seen_ids, "CAPACITY", 100)
    seen = SeenIds()
    for number in range(1, 1001):
        assert seen.add(nonce(number))
        assert not seen.add(nonce(max(1, number - 99)))

    assert not any(seen.add(nonce(number)) for number in range(901, 1001))
    assert seen.add(nonce(1))


def test_ids_of_the_same_place_are_distinguished() -> None:
    """They follow each other in the table."""
    seen = SeenIds()
    places = seen_ids.CAPACITY * 2
    same = [nonce(places * number + 7) for number in range(1, 50)]

    assert all(map(seen.add, same))
    assert not any(map(seen.add, same))
