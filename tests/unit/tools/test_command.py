"""What every command does for the shell that runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import ROOT


@pytest.mark.parametrize("arguments", [("tools.doctor", "cluster"), ("tools.version",)])
def test_a_reader_that_has_gone_is_no_error(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """As in `./task doctor | head -1`: no traceback, and success."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)

    assert (done.returncode, done.stderr) == (0, "")
