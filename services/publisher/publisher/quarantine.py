"""Keeps rejected events with the reason, so that they can be examined and sent again by hand."""

import json
from pathlib import Path
from typing import Any

CURRENT = "rejected.jsonl"
OLDER = "rejected.older.jsonl"


class Quarantine:
    """Two files of bounded size: a full current file replaces the older one."""

    def __init__(self, directory: Path, max_bytes: int = 50_000_000) -> None:
        self._directory = directory
        self._max_bytes = max_bytes

    def add(self, line: bytes, reason: str, **fields: Any) -> None:  # noqa: ANN401 any JSON
        """Append a spooled line and the reason for its rejection. Raises OSError."""
        event = {**fields, "rejected": reason, "line": line.decode(errors="replace")}
        self._directory.mkdir(parents=True, exist_ok=True)
        current = self._directory / CURRENT
        if current.exists() and current.stat().st_size > self._max_bytes // 2:
            current.replace(self._directory / OLDER)
        with current.open("a") as file:
            file.write(json.dumps(event, ensure_ascii=False) + "\n")
