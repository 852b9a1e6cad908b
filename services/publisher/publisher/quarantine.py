"""Events that Fiddler refuses, with its words, so that a person can judge and send them again."""

import json
from pathlib import Path
from typing import Any

CURRENT = "refused.jsonl"
OLDER = "refused.older.jsonl"


class Quarantine:
    """Two files of bounded size: the older one goes when the current one is full."""

    def __init__(self, directory: Path, max_bytes: int = 50_000_000) -> None:
        self._directory = directory
        self._max_bytes = max_bytes

    def add(self, line: bytes, words: str, **facts: Any) -> None:  # noqa: ANN401 any JSON
        """Append a spooled line and why it was refused. Raises OSError."""
        event = {**facts, "refused": words, "line": line.decode(errors="replace")}
        self._directory.mkdir(parents=True, exist_ok=True)
        current = self._directory / CURRENT
        if current.exists() and current.stat().st_size > self._max_bytes // 2:
            current.replace(self._directory / OLDER)
        with current.open("a") as file:
            file.write(json.dumps(event, ensure_ascii=False) + "\n")
