"""Run every checker over its files; say in one line each what is wrong and what is missing."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TYPED = (
    "services/model",
    "services/locust",
    "services/publisher",
    "prometheus",
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


def main() -> int:
    """Run all checks; return 1 when one of those that could run failed."""
    failed = []
    for check in checks():
        if not check.program:
            print(f"-       {check.name}: not on this machine, so not checked")
        elif _passes(check):
            print(f"ok      {check.name}")
        else:
            print(f"FAILED  {check.name}")
            failed.append(check.name)
    return 1 if failed else 0


def checks() -> Iterator[Check]:
    """Yield every check for which there is something to check."""
    yield _python("ruff", "check", "--quiet", ".")
    yield _python("ruff", "format", "--check", "--quiet", ".")
    typed = [name for name in TYPED if next((ROOT / name).rglob("*.py"), None)]
    yield _python("mypy", "--strict", "--no-error-summary", *typed)
    yield Check("shellcheck", _beside_python("shellcheck"), list(_shell_files()))
    yield from _prometheus()
    for overlay in sorted(ROOT.glob("k8s/overlays/*/kustomization.yaml")):
        yield _kustomize(str(overlay.parent.relative_to(ROOT)))
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


def _kustomize(directory: str) -> Check:
    if kustomize := shutil.which("kustomize"):
        return Check(f"kustomize build {directory}", kustomize, ("build", directory))
    return Check(
        f"kubectl kustomize {directory}", shutil.which("kubectl"), ("kustomize", directory)
    )


def _compose() -> str | None:
    docker = shutil.which("docker")
    asked = [docker or "", "compose", "version"]
    return docker if docker and _run(asked).returncode == 0 else None


def _beside_python(program: str) -> str | None:
    return shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)


def _shell_files() -> Iterator[str]:
    """Yield every shell script that git knows, or would add."""
    listed = _run(["git", "ls-files", "--cached", "--others", "--exclude-standard"]).stdout
    for name in listed.splitlines():
        path = ROOT / name
        if path.is_file() and _first_line(path).startswith(_SHEBANGS):
            yield name


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(80)


def _passes(check: Check) -> bool:
    done = _run([check.program or "", *check.arguments])
    if done.returncode:
        print((done.stdout + done.stderr).rstrip())
    return done.returncode == 0


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
