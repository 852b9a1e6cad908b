"""Run the main function of a command that a person types."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def run(main: Callable[[], int]) -> NoReturn:
    """Exit with the status of `main`; a reader that has gone, as in `| head`, is no error."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(_handled(status))


def _handled(status: int) -> int:
    """Return 0 where ./task reads the real status from a file.

    The command has printed what is wrong; go-task would add "Failed to run task".
    """
    file = os.environ.get("TASK_STATUS")
    if not file or not status:
        return status
    Path(file).write_text(str(status))
    return 0
