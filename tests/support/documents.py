"""The commands of the documents: console blocks, and `./task …` in text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools import ROOT

_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(\./task [^`\n]+)`")
_PROMPT = "$ "


@dataclass(frozen=True)
class Command:
    """A command line of a document; it may go on over several lines."""

    document: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}: {' '.join(self.text.split())}"


def documents() -> list[Path]:
    """Return every document with commands for people."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]


def commands() -> list[Command]:
    """Return every command of every document, in order, each once."""
    found: dict[str, Command] = {}
    for path in documents():
        if path.is_file():
            for text in commands_in(path.read_text("utf-8")):
                found.setdefault(text.partition(" #")[0].strip(), Command(path.name, text))
    return [*found.values()]


def commands_in(text: str) -> Iterator[str]:
    """Yield the commands of a document's console blocks, and each `./task …` of its sentences.

    In a block with prompts, a command goes on as long as it is not complete; what follows is its
    output. In a block without, every line is a part of a command.
    """
    end = 0
    for match in _BLOCK.finditer(text):
        yield from _INLINE.findall(text[end : match.start()])
        if match[1] == "console":
            yield from _commands_of(match[2])
        end = match.end()
    yield from _INLINE.findall(text[end:])


def _commands_of(block: str) -> Iterator[str]:
    prompted = block.startswith(_PROMPT)
    command = ""
    for line in block.splitlines():
        if command:
            command += f"\n{line}"
        elif not prompted or line.startswith(_PROMPT):
            command = line.removeprefix(_PROMPT)
        if command.strip() and _complete(command):
            yield command
            command = ""
    assert not command.strip(), f"a command without an end: {command}"


def _complete(command: str) -> bool:
    """Return whether a command needs no further line: its quotes are closed."""
    bare = re.sub(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|(?<!\S)#.*$", "", command, flags=re.MULTILINE)
    return "'" not in bare and '"' not in bare and not bare.rstrip(" ").endswith("\\")
