"""Lock the dependency groups of pyproject.toml: names, versions and hashes, and no host.

What several files name has one version in all of them: the development lock is made first and
binds the others, except those for an environment of their own. Options are uv's:
`./task lock -- --upgrade`.
"""

import subprocess
import sys
from collections.abc import Sequence

from tools import ROOT
from tools.environment import LIBRARIES

DEVELOPMENT = "requirements-dev.txt"
GROUPS = {
    DEVELOPMENT: "dev",
    "requirements.txt": "stack",
    "services/model/requirements.txt": "model",
    "services/model/requirements-train.txt": "train",
    **{lock: name for name, lock in LIBRARIES.items()},
    "services/locust/requirements.txt": "locust",
    "services/publisher/requirements.txt": "publisher",
    "tests/requirements-clients.txt": "clients",
    "tests/requirements-fuzz.txt": "fuzz",
    "tests/requirements-s3.txt": "s3",
    "tools/model/requirements-parquet.txt": "parquet",
    "tools/log/requirements.txt": "log",
    "tools/honesty/requirements.txt": "honesty",
    "tools/audit/requirements.txt": "audit",
}
# Not bound by the development lock.
_ALONE = (
    DEVELOPMENT,
    "tests/requirements-clients.txt",
    "tests/requirements-fuzz.txt",
    "tests/requirements-s3.txt",
    "tools/honesty/requirements.txt",
    "tools/audit/requirements.txt",
)


def main(options: Sequence[str]) -> int:
    """Write every lock file; return uv's exit status."""
    for file, group in GROUPS.items():
        print(f"{file}: group {group}")
        if status := subprocess.run(
            _command(file, group, options), cwd=ROOT, check=False
        ).returncode:
            return status
    return 0


def _command(file: str, group: str, options: Sequence[str]) -> list[str]:
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--quiet"),
        *("--group", group, "--output-file", file),
        # One lock for every platform and every Python the project runs on.
        *("--universal", "--python-version", "3.11", "--generate-hashes"),
        *("--no-emit-index-url", "--no-emit-find-links", "--annotation-style", "line"),
        *("--custom-compile-command", "./task lock"),
    ]
    if file not in _ALONE:
        command += ["--constraints", DEVELOPMENT]
    return [*command, *options]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
