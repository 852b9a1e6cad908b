"""Erase predictions and their labels, by id, from the stack's prediction log and its spool.

    ./task erase -- ID [ID …]
    ./task erase -- --file ids.txt

The log is PREDICTION_LOG, the spool that of the native stack. In containers and on Kubernetes the
publisher's image has the same command; see docs/prediction_log.md.
"""

import os
from collections.abc import Sequence

from publisher import erase
from tools.command import run
from tools.log.location import stack_log, use_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Erase and print the report; return 1 if something is left."""
    settings = use_settings()
    os.environ["PREDICTION_LOG"] = stack_log(settings)
    os.environ["MODEL_SPOOL_DIR"] = str(settings.var / "spool")
    # Paths that a person types are relative to where they are.
    os.chdir(os.environ.get("USER_WORKING_DIR") or ".")
    return erase.main(argv)


if __name__ == "__main__":
    run(main)
