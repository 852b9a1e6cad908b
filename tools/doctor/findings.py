"""What the doctor finds, one line each."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How bad it is."""

    WELL = "ok"
    UNKNOWN = "--"
    """Could not be looked at; no reason to fail."""
    ILL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what is the matter, and what to do about it."""

    level: Level
    subject: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.level.value:<4}  {self.subject}: {self.text}"
        return f"{line} → {self.remedy}" if self.remedy else line


def well(subject: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(Level.WELL, subject, text)


def unknown(subject: str, text: str, remedy: str = "") -> Finding:
    """Return that something could not be looked at."""
    return Finding(Level.UNKNOWN, subject, text, remedy)


def ill(subject: str, text: str, remedy: str) -> Finding:
    """Return what is wrong, with its remedy."""
    return Finding(Level.ILL, subject, " ".join(text.split()), remedy)


def or_well(found: Iterable[Finding], subject: str, text: str) -> list[Finding]:
    """Return what was found, or that all is well."""
    return list(found) or [well(subject, text)]


class UnreachableError(Exception):
    """Something does not answer; the message says what and why, in one line."""
