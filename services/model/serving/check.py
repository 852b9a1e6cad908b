"""Start a worker's application and predict once: `python -m serving.check METRICS_DIR`.

A fault is one line on standard error and exit status 1.
"""

import os
import sys
import tempfile

from bundle.load import BundleError


def main() -> None:
    """Check the bundle that MODEL_BUNDLE names."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1], prefix="check-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        os.environ["MODEL_SPOOL_DIR"] = os.environ["MODEL_SPOOL_LOG_DIR"] = ""
        # It reads the directory's variable when it is imported.
        from serving.app import create_app  # noqa: PLC0415

        try:
            create_app()
        except BundleError as error:
            sys.exit(str(error))
        except Exception as error:  # noqa: BLE001 whatever a bundle's code raises
            sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
