"""`./task soak` in short: reloads, kills, nonsense and a stop under load lose no count."""

from pathlib import Path

from tools.soak import soak


def test_a_short_soak_finds_no_fault(example_bundle: Path) -> None:
    """Every answered request is counted once, and only killed workers fail any."""
    report = soak(example_bundle, 10)

    assert report.faults == []
    assert report.kills > 0
    assert report.reloads > 0
    assert report.answered > 100
