"""Pictures of the report, by a Chromium without a window."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.report.errors import ReportError

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SECONDS = 90
# The page draws itself within this much of its own time, however slow the machine is.
_BUDGET_MS = 20_000
# Of the parts of the page: one row of panels, what every page has, a verdict, a line of what
# changed, and the width from which these lines stand in two columns.
_ROW_PX, _FRAME_PX, _VERDICT_PX, _LINE_PX = 38, 350, 62, 29
_TWO_COLUMNS_PX = 1000


def browser() -> str | None:
    """Return the path of a Chromium, where there is one."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


@contextlib.contextmanager
def profile() -> Iterator[Sequence[str]]:
    """Yield the options for a browser that leaves nothing behind and asks nobody."""
    with tempfile.TemporaryDirectory(prefix="report-", ignore_cleanup_errors=True) as directory:
        yield (
            "--headless=new",
            "--disable-gpu",
            "--no-sandbox",  # a container's root has no other way; the page is our own file
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
            f"--user-data-dir={directory}",
        )


@dataclass(frozen=True)
class Size:
    """The size of a picture: its width in pixels, and what is in it."""

    width: int
    rows: int
    """Rows of panels."""
    verdicts: int = 1
    lines: int = 2
    """Of what changed."""

    @property
    def height(self) -> int:
        """The height in pixels, with some room."""
        columns = 2 if self.width >= _TWO_COLUMNS_PX else 1
        lines = self.verdicts * _VERDICT_PX + -(-self.lines // columns) * _LINE_PX
        return _FRAME_PX + lines + self.rows * _ROW_PX


def picture(page: Path, board: str, target: Path, theme: str, size: Size) -> None:
    """Write a picture of one dashboard of a page; raise ReportError where the browser fails."""
    binary = browser()
    if not binary:
        raise ReportError(f"no picture: none of {', '.join(_NAMES)} is on PATH")
    address = f"{page.resolve().as_uri()}?still&theme={theme}#{board}"
    with profile() as options:
        command = [
            binary,
            *options,
            f"--window-size={size.width},{size.height}",
            f"--virtual-time-budget={_BUDGET_MS}",
            f"--screenshot={target.resolve()}",
            address,
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ReportError(f"no picture of {board}: {binary} took over {_SECONDS} s") from error
    if done.returncode or not target.is_file():
        last = next(reversed(done.stderr.strip().splitlines()), "no reason")
        raise ReportError(f"no picture of {board}: {binary} says: {last}")
