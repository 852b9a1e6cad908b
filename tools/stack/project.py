"""The name of this clone's Compose project: two clones must not share containers and volumes."""

import hashlib
import re
import subprocess
from functools import cache

from tools import ROOT
from tools.stack.settings import Settings

VARIABLE = "COMPOSE_PROJECT_NAME"
_LABEL = "com.docker.compose.project"


def name(settings: Settings) -> str:
    """Return the name that is set, else that of a plain `docker compose up`, else the derived."""
    if given := settings.environment.get(VARIABLE):
        return given
    plain = _plain()
    return plain if plain and _started_here(plain) else derived(str(ROOT))


def derived(path: str) -> str:
    """Return a project name that only a clone at this path has."""
    words = re.sub(r"[^a-z0-9]+", "-", path.rpartition("/")[2].lower()).strip("-")
    return f"{words or 'clone'}-{hashlib.sha256(path.encode()).hexdigest()[:6]}"


def remember(settings: Settings) -> None:
    """Put the name into .env, where a plain `docker compose` finds it, unless it is set."""
    if settings.environment.get(VARIABLE):
        return
    file = ROOT / ".env"
    text = file.read_text() if file.is_file() else ""
    line = f"{VARIABLE}={name(settings)}"
    if text and not text.endswith("\n"):
        text += "\n"
    file.write_text(f"{text}{line}\n")
    print(f"this clone's Compose project: {line} (now in .env)")


def _plain() -> str:
    """Return the name that Compose itself derives from the directory."""
    return re.sub(r"[^a-z0-9_-]", "", ROOT.name.lower()).lstrip("_-")


@cache
def _started_here(project: str) -> bool:
    filters = (f"{_LABEL}={project}", f"{_LABEL}.working_dir={ROOT}")
    command = ["docker", "ps", "--all", "--quiet"]
    for each in filters:
        command += ["--filter", f"label={each}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return bool(done.stdout.strip())
