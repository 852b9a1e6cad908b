"""Replay a prediction log against another version of the model and print the differences.

The log is the stack's (PREDICTION_LOG), a directory or URL of such Parquet files, or a kept spool
(see services/model/serving/spool.py): segments, or directories of them. If it contains labels, the
errors or the accuracy of both versions are compared.

    ./task replay -- --bundle var/candidate
    ./task replay -- s3://bucket/log --url http://127.0.0.1:8000
    ./task replay -- var/spool --bundle var/candidate

With --bundle the model is loaded in this process, and no metric of a running service changes.
"""

import argparse
import sys
from pathlib import Path

import httpx

from bundle.load import BundleError
from tools.replay.compare import compare, report
from tools.replay.excluded import excluded_features
from tools.replay.log import ReplayError
from tools.replay.open import open_log
from tools.replay.predict import Predict, with_bundle, with_service

TIMEOUT = 60.0


def _model(arguments: argparse.Namespace) -> Predict:
    if arguments.bundle:
        return with_bundle(arguments.bundle, excluded_features())
    return with_service(httpx.Client(base_url=arguments.url, timeout=TIMEOUT))


def main(argv: list[str] | None = None) -> None:
    """Replay a log and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "log",
        nargs="*",
        help="directory or URL of a log, or segments or directories of a spool;"
        " default: PREDICTION_LOG",
    )
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--bundle", type=Path, help="bundle directory of the other version")
    other.add_argument("--url", help="URL of a service that runs the other version")
    parser.add_argument(
        "--worst",
        type=int,
        default=3,
        help="number of largest differences of a regression to print (default 3)",
    )
    arguments = parser.parse_args(argv)
    try:
        log = open_log(arguments.log)
        for line in report(log, compare(log, _model(arguments), arguments.worst)):
            print(line)
    except (ReplayError, BundleError) as error:
        sys.exit(f"replay: {error}")


if __name__ == "__main__":
    main()
