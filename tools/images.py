"""Build every image of ours; with --push, publish them as the workflow "images" does."""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence

from tools.stack.settings import ROOT, StackError, load_settings

PLATFORMS = "linux/amd64,linux/arm64"


def services() -> list[str]:
    """Return the services that have an image of their own."""
    return sorted(path.parent.name for path in (ROOT / "services").glob("*/Dockerfile"))


def build_command(service: str, image: str, *, push: bool) -> list[str]:
    """Return the command that builds an image: for this machine, or for all and published."""
    publish = ["--platform", PLATFORMS, "--sbom=true", "--provenance=mode=max", "--push"]
    return [
        *("docker", "buildx", "build", "--file", f"services/{service}/Dockerfile"),
        *("--tag", image),
        *(publish if push else ["--load"]),
        ".",
    ]


def names() -> tuple[str, str]:
    """Return what stands before and after a service's name in an image's: as Compose has it."""
    environment = load_settings().environment
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    prefix = environment.get("IMAGE_PREFIX") or "ml-monitoring"
    return prefix, environment.get("IMAGE_TAG") or version


def main(arguments: Sequence[str] | None = None) -> int:
    """Build; a StackError is one line on stderr and exit status 1."""
    parser = argparse.ArgumentParser(prog="tools.images", description=__doc__)
    parser.add_argument("--push", action="store_true", help=f"publish, for {PLATFORMS}")
    push = parser.parse_args(arguments).push
    try:
        _build_all(push=push)
    except StackError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


def _build_all(*, push: bool) -> None:
    if not shutil.which("docker"):
        raise StackError("docker is not installed: https://docs.docker.com/engine/install")
    prefix, tag = names()
    if push and "/" not in prefix:
        raise StackError("IMAGE_PREFIX names no registry: ghcr.io/your-organisation/ml-monitoring")
    for service in services():
        command = build_command(service, f"{prefix}/{service}:{tag}", push=push)
        print(f"$ {' '.join(command)}", flush=True)
        if subprocess.run(command, cwd=ROOT, env=os.environ, check=False).returncode:
            raise StackError(f"the image of {service} was not built; docker's words are above")


if __name__ == "__main__":
    sys.exit(main())
