"""Erasing while a real publisher writes the prediction log."""

import json
from pathlib import Path

import pytest

from publisher.erase import main
from tests.support.logging_publisher import logging_predictions, read_rows
from tests.support.spool import label, predictions, small_spool

ROUNDS = 10


def test_what_is_erased_while_the_log_is_written_is_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In each round, of a segment that is closed, one that is open, and one that is logged."""
    spool, root = tmp_path / "spool", str(tmp_path / "log")
    writer, _ = small_spool(spool, spool / "log")
    kept: list[str] = []
    with logging_predictions(spool / "log", root, tmp_path / "publisher.txt") as publisher:
        for number in range(ROUNDS):
            names = [f"{place}-{number}" for place in ("logged", "closed", "open")]
            for name in names:
                writer.append(predictions([f"{name}-kept", f"{name}-gone"]))
                writer.append([label(f"{name}-gone"), label(f"{name}-kept")])
                if not name.startswith("open"):
                    writer.close()
            kept += [f"{name}-kept" for name in names]
            gone = [f"logged-{number - 1}-gone"] if number else []

            arguments = ["--log", root, "--spool", str(spool)]
            assert main([*arguments, f"closed-{number}-gone", f"open-{number}-gone", *gone]) == 0

            assert "not found" not in capsys.readouterr().out
            writer.close()
        assert main([*arguments, f"logged-{ROUNDS - 1}-gone"]) == 0
        publisher.until_idle()

    for table in ("predictions", "labels"):
        ids = read_rows(root, table)["prediction_id"].to_pylist()
        assert sorted(ids) == sorted(kept)
    assert read_rows(root, "predictions").num_rows == 3 * ROUNDS
    lines = [line for path in spool.glob("*.jsonl") for line in path.read_bytes().splitlines()[1:]]
    assert not [line for line in lines if line.strip() and b"gone" in line]
    assert all(json.loads(line) for line in lines if line.strip())
    assert not (spool / "log" / "quarantine").exists()
    assert [*(spool / "log").glob("*.jsonl")] == []
