"""The spool on a disk that is full, and the publisher that crashes again and again."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import report_missing
from tests.support.model import total
from tests.support.publisher import accepted, publishing, require_client, start_writer
from tests.support.wait import eventually
from tools.fiddler_stand_in import running_fiddler


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 3 MB."""
    disk = tmp_path / "spool"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        report_missing("only root can mount a small file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _free(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def test_a_full_disk_is_emptied(tmp_path: Path, small_disk: Path) -> None:
    """A disk that fills up while Fiddler is down costs only what was never accepted.

    The publisher cannot store its position, but removes what it has sent, so there is room again.
    """
    require_client()
    with running_fiddler() as fiddler:
        fiddler.close()
        writer = start_writer(small_disk, "writer", tmp_path, batches=3_000)
        eventually(lambda: _free(small_disk) == 0, "the disk is full")
        with publishing(small_disk, fiddler.url, tmp_path / "log") as publisher:
            publisher.until("a failure", "publisher_failures_total", cause="connection")
            fiddler.listen()
            publisher.until(
                "a position was not stored", "publisher_position_failures_total", at_least=1
            )
            assert writer.wait() == 0
            publisher.until_idle()
            # The position is written again, and nobody has to help.
            failures = total(publisher.scrape(), "publisher_position_failures_total")
        predictions, labels = accepted(tmp_path)

    events = fiddler.store.all_events()
    assert predictions - events.keys() == set()
    assert labels - {key for key, event in events.items() if "quality" in event} == set()
    assert fiddler.store.counts["duplicates"] == 0
    assert failures >= 1
    assert "were not spooled" in writer.output()


def test_a_publisher_that_is_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    """Each start goes on where the last one stored its position."""
    require_client()
    spool = tmp_path / "spool"
    spool.mkdir()
    writer = start_writer(spool, "writer", tmp_path, batches=400)
    with running_fiddler() as fiddler:
        for number in range(4):
            with publishing(spool, fiddler.url, tmp_path / f"{number}.log") as publisher:
                publisher.until("events arrive", "publisher_events_total")
        assert writer.wait() == 0
        with publishing(spool, fiddler.url, tmp_path / "last.log") as publisher:
            publisher.until_idle()

    predictions, labels = accepted(tmp_path)
    events = fiddler.store.all_events()
    assert events.keys() == predictions
    assert {key for key, event in events.items() if "quality" in event} == labels
