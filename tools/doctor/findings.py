"""The findings of the doctor, one line each."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """The severity of a finding."""

    OK = "ok"
    UNKNOWN = "--"
    """Could not be checked; no reason to fail."""
    PROBLEM = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: its state, and what to do about it."""

    level: Level
    subject: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.level.value:<4}  {self.subject}: {self.text}"
        return f"{line} → {self.remedy}" if self.remedy else line


def ok(subject: str, text: str) -> Finding:
    """Return that something was checked and is healthy."""
    return Finding(Level.OK, subject, text)


def unknown(subject: str, text: str, remedy: str = "") -> Finding:
    """Return that something could not be checked."""
    return Finding(Level.UNKNOWN, subject, text, remedy)


def problem(subject: str, text: str, remedy: str) -> Finding:
    """Return a problem, with its remedy."""
    return Finding(Level.PROBLEM, subject, " ".join(text.split()), remedy)


def or_ok(found: Iterable[Finding], subject: str, text: str) -> list[Finding]:
    """Return the problems, or one line that says that there are none."""
    return list(found) or [ok(subject, text)]


class UnreachableError(Exception):
    """Something does not answer; the message names it and the reason, in one line."""
