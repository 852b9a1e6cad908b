"""The list of files that a prediction passes through in docs/architecture.md is correct."""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from uvicorn.config import Config

from bundle.manifest import Manifest
from tests.support.protocol import Client, request
from tools import ROOT

SERVICE = ROOT / "services" / "model"


def documented() -> list[str]:
    """Return the numbered list of the document."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = page.partition("### The files that one row to predict enters")[2].partition("\n## ")[
        0
    ]
    return re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE)


@contextmanager
def traced(files: list[str]) -> Iterator[None]:
    """Collect the service's files in which a function is called, in order of the first call."""

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(SERVICE):
            name = str(path.relative_to(SERVICE))
            if name not in files:
                files.append(name)

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def test_a_row_passes_through_the_documented_files(config: Config, example: Manifest) -> None:
    """The second request is traced, because the first one includes initialization."""
    row = {each.name: each.example for each in example.features}
    sent = request(json.dumps(row).encode())
    files: list[str] = []

    async def talk() -> None:
        client = Client(config)
        client.send(sent)
        await client.answers(1)
        client.wire.written = b""
        with traced(files):
            client.send(sent)
            await client.answers(1)

    asyncio.run(talk())

    assert documented() == files
