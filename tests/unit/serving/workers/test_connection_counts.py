"""Each live worker has an entry of its own."""

from collections import deque

from serving.workers.connection_counts import ConnectionCount, ConnectionCounts


def test_live_workers_never_share_an_entry() -> None:
    """However many workers there were before them."""
    counts = ConnectionCounts()
    live: deque[ConnectionCount] = deque()
    for _ in range(3000):
        entry = counts.free(live)
        assert entry.index not in {each.index for each in live}
        entry.start()
        live.append(entry)
        if len(live) > 8:
            live.popleft().stop()


def test_an_entry_is_free_again_when_its_worker_was_killed() -> None:
    """The connections of a worker that had no time to close them do not count for the next."""
    counts = ConnectionCounts()
    killed = counts.free([])
    killed.start()
    killed.add(100)
    after = counts.free([])

    assert after.index == killed.index
    assert not after.is_accepting
    after.start()
    assert not after.is_ahead
