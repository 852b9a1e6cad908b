"""Build every image of ours; with --push, publish them as the workflow "images" does."""

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence

from tools import ROOT, command
from tools.stack.settings import StackError, load_settings

DOCKERFILE = ROOT / "services" / "Dockerfile"
PLATFORMS = "linux/amd64,linux/arm64"


def services() -> list[str]:
    """Return the services that have an image of their own."""
    return sorted(re.findall(r"^FROM service AS (\S+)$", DOCKERFILE.read_text(), re.MULTILINE))


def publish_command(service: str, image: str, libraries: str = "") -> list[str]:
    """Return the command that builds an image for every platform and publishes it."""
    return [
        *("docker", "buildx", "build", "--file", str(DOCKERFILE.relative_to(ROOT))),
        *("--target", service, "--build-arg", f"MODEL_LIBRARIES={libraries}"),
        *("--platform", PLATFORMS, "--sbom=true", "--provenance=mode=max"),
        *("--tag", image, "--push", "."),
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
        if push:
            publish()
        else:
            run(["docker", "compose", "build", *services()])
    except StackError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


def publish() -> None:
    """Build and publish every image. Raises StackError."""
    prefix, tag = names()
    if "/" not in prefix:
        raise StackError("IMAGE_PREFIX names no registry: ghcr.io/your-organisation/ml-monitoring")
    libraries = load_settings().environment.get("MODEL_LIBRARIES", "")
    for service in services():
        run(publish_command(service, f"{prefix}/{service}:{tag}", libraries))


def run(command: Sequence[str]) -> None:
    """Show a command and carry it out. Raises StackError."""
    if not shutil.which("docker"):
        raise StackError("docker is not installed: https://docs.docker.com/engine/install")
    print(f"$ {' '.join(command)}", flush=True)
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise StackError("an image was not built; docker's message is above")


if __name__ == "__main__":
    command.run(main)
