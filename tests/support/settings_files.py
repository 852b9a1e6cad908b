"""Reads settings.env files."""

import re
from pathlib import Path


def bare_settings(path: Path) -> dict[str, str]:
    """Return the settings of a file whose lines must be bare KEY=value pairs.

    Compose strips quotes and comments from a value, and Kustomize does not.
    """
    lines = path.read_text("utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    bad = [key for key, equals, value in pairs if not equals or re.search(r"[\s\"'#$]", value)]
    assert not bad, f"{path}: {bad} are not bare KEY=value pairs"
    return {key: value for key, _, value in pairs}
