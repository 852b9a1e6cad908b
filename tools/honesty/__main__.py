"""Compare the drift alerts with other tools: false alarms without drift, delay with it.

`--write FILE` replaces the tables between the markers of a Markdown file. The run takes about
half an hour; five minutes once the other tools' answers are in var/honesty.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.honesty import study
from tools.honesty.tables import insert, report


def main(arguments: Sequence[str]) -> int:
    """Print the tables, or write them into a file."""
    parser = argparse.ArgumentParser(
        prog="honesty", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown file with the markers")
    parser.add_argument(
        "--quick", action="store_true", help="few short streams, without the other tools"
    )
    options = parser.parse_args(arguments)
    file: Path | None = options.write
    if file is None:
        print(report(_run(quick=options.quick)))
        return 0
    try:
        # Before an hour's work is lost.
        insert(file.read_text("utf-8"), "")
        text = report(_run(quick=options.quick))
        file.write_text(insert(file.read_text("utf-8"), text), "utf-8")
    except (OSError, ValueError) as error:
        sys.exit(f"honesty: {file}: {error}")
    return 0


def _run(*, quick: bool) -> study.Study:
    if quick:
        return study.run(study.QUICK, None)
    try:
        with study.peers() as others:
            return study.run(study.Size(), others)
    except FileNotFoundError:
        sys.exit(f"honesty: {study.VENV} is missing; ./task honesty installs it")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
