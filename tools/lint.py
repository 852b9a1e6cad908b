"""Run every checker over its files; say in one line each what is wrong and what is missing."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import ROOT

TYPED = (
    "services/model",
    "services/locust",
    "services/publisher",
    "examples",
    "prometheus",
    "bench",
    "tools",
    "tests",
)
# Grafana's entrypoint and others are sh without a suffix.
_SHEBANGS = (b"#!/bin/sh", b"#!/usr/bin/env bash", b"#!/bin/bash", b"#!/usr/bin/env sh")


@dataclass(frozen=True)
class Check:
    """A checker and the command that runs it; `program` is empty where the machine lacks it."""

    name: str
    program: str | None
    arguments: Sequence[str]
    directory: Path = ROOT


def main() -> int:
    """Run all checks; return 1 when one of those that could run failed."""
    with tempfile.TemporaryDirectory() as directory:
        manifests = Path(directory)
        _copy_with_secrets(manifests)
        failed = [check.name for check in checks(manifests) if not _reported(check)]
    return 1 if failed else 0


def _reported(check: Check) -> bool:
    """Run a check and say how it went; False when it failed."""
    if not check.program:
        print(f"-       {check.name}: not on this machine, so not checked")
        return True
    passed = _passes(check)
    print(f"{'ok    ' if passed else 'FAILED'}  {check.name}")
    return passed


def checks(manifests: Path) -> Iterator[Check]:
    """Yield every check for which there is something to check."""
    yield _python("ruff", "check", "--quiet", ".")
    yield _python("ruff", "format", "--check", "--quiet", ".")
    typed = [name for name in TYPED if next((ROOT / name).rglob("*.py"), None)]
    yield _python("mypy", "--strict", "--no-error-summary", *typed)
    yield Check("shellcheck", _beside_python("shellcheck"), list(_shell_files()))
    yield from _prometheus()
    for overlay in sorted(manifests.glob("k8s/overlays/*/kustomization.yaml")):
        yield _kustomize(manifests, str(overlay.parent.relative_to(manifests)))
    if (ROOT / "compose.yaml").exists():
        yield Check("docker compose config", _compose(), ("compose", "config", "--quiet"))


def _python(module: str, *arguments: str) -> Check:
    name = " ".join([module, *(word for word in arguments[:1] if not word.startswith("-"))])
    return Check(name, sys.executable, ("-m", module, *arguments))


def _prometheus() -> Iterator[Check]:
    promtool, amtool = shutil.which("promtool"), shutil.which("amtool")
    rules = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("prometheus/rules/*.yml"))
    configs = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("prometheus/alert*.yml"))
    yield Check("promtool check rules", promtool, ("check", "rules", *rules))
    yield Check("promtool check config", promtool, ("check", "config", "prometheus/prometheus.yml"))
    yield Check("amtool check-config", amtool, ("check-config", *configs))


def _kustomize(manifests: Path, directory: str) -> Check:
    program, *words = (
        ("kustomize", "build") if shutil.which("kustomize") else ("kubectl", "kustomize")
    )
    name = " ".join([program, *words, directory])
    return Check(name, shutil.which(program), (*words, directory), manifests)


def _copy_with_secrets(copy: Path) -> None:
    """Copy what git has, each example of a secret as the secret: without it nothing is built."""
    for name in _files():
        target = copy / name.removesuffix(".example")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)


def _compose() -> str | None:
    docker = shutil.which("docker")
    asked = [docker or "", "compose", "version"]
    return docker if docker and _run(asked).returncode == 0 else None


def _beside_python(program: str) -> str | None:
    return shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)


def _files() -> Iterator[str]:
    """Yield every file that git knows, or would add."""
    listed = _run(["git", "ls-files", "--cached", "--others", "--exclude-standard"]).stdout
    yield from (name for name in listed.splitlines() if (ROOT / name).is_file())


def _shell_files() -> Iterator[str]:
    return (name for name in _files() if _first_line(ROOT / name).startswith(_SHEBANGS))


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(80)


def _passes(check: Check) -> bool:
    done = _run([check.program or "", *check.arguments], check.directory)
    if done.returncode:
        print((done.stdout + done.stderr).rstrip())
    return done.returncode == 0


def _run(command: Sequence[str], directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
