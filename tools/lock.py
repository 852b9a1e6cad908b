"""Lock the dependency groups of pyproject.toml: names, versions and hashes, and no host.

What several files name has one version in all of them: the development lock is made first and
binds the others, except those for an environment of their own. Options are uv's:
`./task lock -- --upgrade`.
"""

import subprocess
import sys
from collections.abc import Sequence

from tools import ROOT

DEVELOPMENT = "requirements-dev.txt"
GROUPS = {
    DEVELOPMENT: "dev",
    "requirements.txt": "stack",
    "services/model/requirements.txt": "model",
    "services/model/requirements-train.txt": "train",
    "services/locust/requirements.txt": "locust",
    "services/publisher/requirements.txt": "publisher",
    "tests/requirements-clients.txt": "clients",
    "tools/honesty/requirements.txt": "honesty",
}
# Not bound by the development lock.
_ALONE = (DEVELOPMENT, "tests/requirements-clients.txt", "tools/honesty/requirements.txt")


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
