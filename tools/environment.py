"""Make .venv and install into it: python3 tools/environment.py [go-task | LOCK FILE …].

Standard library only, since it runs before anything is installed. `.venv/incomplete` exists while
.venv is being changed: after an interrupt, a kill or a full disk the next run makes .venv again.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
GO_TASK = "go-task"
RUNTIME = "requirements.txt"
DEVELOPMENT = "requirements-dev.txt"
PUBLISHER = "services/publisher/requirements.txt"
PARQUET = "tools/model/requirements-parquet.txt"
# What some estimators need, by the name of the library.
LIBRARIES = {
    name: f"services/model/requirements-{name}.txt"
    for name in ("xgboost", "lightgbm", "catboost", "skops", "mlflow")
}
LOG = "tools/log/requirements.txt"

# Megabytes that each takes on the disk, with the archives that pip unpacks meanwhile.
_NEEDED_MB = {
    GO_TASK: 100,
    RUNTIME: 700,
    DEVELOPMENT: 1650,
    PUBLISHER: 450,
    PARQUET: 250,
    LOG: 400,
    **dict(zip(LIBRARIES.values(), (60, 40, 700, 20, 200), strict=True)),
}
# The development lock names all that these locks name, in the same versions.
_INCLUDED = {DEVELOPMENT: (RUNTIME, LOG)}
_PROGRESS_SECONDS = 4.0
_REQUIREMENT = re.compile(r"^([\w.-]+)(?:\[[^]]*\])?==", re.MULTILINE)
_PIP = (
    *("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off"),
    # Compiling everything takes longer than installing it; Python compiles what it imports.
    *("--no-compile", "--require-hashes", "--retries=2", "--timeout=10"),
)


class InstallError(Exception):
    """Why .venv cannot be made or changed, in one line."""


def main(names: Sequence[str]) -> int:
    """Install; an InstallError is one line on stderr and exit status 1."""
    try:
        install(*names)
    except InstallError as error:
        print(f"task: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("task: interrupted: the next ./task makes .venv again", file=sys.stderr)
        return 130
    return 0


def install(*names: str) -> None:
    """Install go-task or lock files, each unless it is there already. Raises InstallError."""
    with _alone():
        _make()
        for name in names:
            if not installed(name):
                _install(name)


def installed(name: str) -> bool:
    """Return whether .venv has go-task, or all that a lock file names."""
    if name == GO_TASK:
        return os.access(VENV / "bin" / "task", os.X_OK)
    note = _note(name)
    return note.is_file() and note.read_bytes() == (ROOT / name).read_bytes()


def _note(lock: str) -> Path:
    """Return the copy of a lock file that is kept once the lock is installed."""
    return VENV / f"installed-{lock.replace('/', '-')}"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold a lock on the checkout, so that two runs do not change .venv at once."""
    descriptor = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another ./task is changing .venv: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make() -> None:
    """Make .venv unless there is a complete one."""
    interrupted = _incomplete().exists()
    if os.access(VENV / "bin" / "python", os.X_OK) and not interrupted:
        return
    if interrupted:
        _say("an earlier run was interrupted while it changed .venv: making it again")
    _check_disk(_NEEDED_MB[GO_TASK])
    with _changing():
        _empty()
        _say(f"making .venv with Python {sys.version.partition(' ')[0]}")
        _run([sys.executable, "-m", "venv", str(VENV)])


def _empty() -> None:
    """Remove what .venv holds; .venv itself may be a link to a directory elsewhere."""
    for path in VENV.iterdir():
        if path == _incomplete():
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _install(name: str) -> None:
    _check_disk(_NEEDED_MB[name])
    lines = _go_task_lines() if name == GO_TASK else (ROOT / name).read_text()
    number = len(_named(lines))
    _say(f"installing {name} into .venv" + (f": {number} packages" if number > 1 else ""))
    with _changing():
        _pip(lines)
        for lock in (name, *_INCLUDED.get(name, ())):
            if lock != GO_TASK:
                shutil.copyfile(ROOT / lock, _note(lock))


def _go_task_lines() -> str:
    """Return go-task's entry in the lock: its lines up to the first without a backslash."""
    lines = iter((ROOT / RUNTIME).read_text().splitlines())
    entry = [next(line for line in lines if line.startswith("go-task-bin=="))]
    while entry[-1].endswith("\\"):
        entry.append(next(lines))
    return "\n".join(entry)


def _incomplete() -> Path:
    return VENV / "incomplete"


@contextlib.contextmanager
def _changing() -> Iterator[None]:
    """Note that .venv is being changed; the note stays after a failure."""
    try:
        VENV.mkdir(exist_ok=True)
        _incomplete().touch()
    except OSError as error:
        raise InstallError(
            f"{VENV} cannot be written ({error.strerror}): use a clone that you can write to"
        ) from error
    yield
    _incomplete().unlink()


def _check_disk(needed_mb: int) -> None:
    free_mb = shutil.disk_usage(ROOT).free // 10**6
    if free_mb < needed_mb:
        raise InstallError(
            f".venv needs {needed_mb} MB more in {ROOT}, which has {free_mb} MB free"
        )


def _named(lock: str) -> set[str]:
    """Return the normalized names of what a lock names, on whatever platform."""
    return {_normalized(name) for name in _REQUIREMENT.findall(lock)}


def _installed_names() -> set[str]:
    """Return the normalized names of what .venv has."""
    found = (VENV / "lib").glob("python*/site-packages/*.dist-info")
    return {_normalized(path.name.partition("-")[0]) for path in found}


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(lock: str) -> None:
    """Install what a lock names, with a line of progress every few seconds."""
    command = [str(VENV / "bin" / "python"), *_PIP, "-r", "/dev/stdin"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as pip:
        output: list[str] = []
        feeder = threading.Thread(target=_feed, args=(pip, lock))
        reader = threading.Thread(target=_collect, args=(pip, output))
        feeder.start()
        reader.start()
        try:
            _report_until_end(pip, output, _named(lock))
        except BaseException:
            pip.terminate()
            raise
        finally:
            feeder.join()
            reader.join()
    if pip.returncode:
        raise InstallError(f"pip failed: {_complaint(output)}")


def _feed(pip: "subprocess.Popen[str]", lock: str) -> None:
    """Write the lock to pip's standard input."""
    assert pip.stdin  # noqa: S101 a pipe
    with contextlib.suppress(BrokenPipeError), pip.stdin:
        pip.stdin.write(lock)


def _collect(pip: "subprocess.Popen[str]", output: list[str]) -> None:
    assert pip.stdout  # noqa: S101 a pipe
    output.extend(iter(pip.stdout.readline, ""))


def _report_until_end(pip: "subprocess.Popen[str]", output: list[str], named: set[str]) -> None:
    while True:
        try:
            pip.wait(_PROGRESS_SECONDS)
        except subprocess.TimeoutExpired:
            _say(_progress(output, named))
        else:
            return


def _progress(output: Sequence[str], named: set[str]) -> str:
    """Return how far pip is, by what it has printed."""
    installing = any(line.startswith("Installing collected") for line in output)
    if installing:
        return f"  installing: {len(named & _installed_names())} of {len(named)} packages"
    found = sum(line.startswith("Collecting") for line in output)
    return f"  downloading: {found} of {len(named)} packages"


def _complaint(output: Sequence[str]) -> str:
    """Return the line of pip's output that says what is wrong."""
    lines = [line.strip() for line in output if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "error"))]
    silent = [line for line in lines if "Failed to establish" in line or "timed out" in line]
    if silent:
        return "the package registry does not answer; a first start needs it"
    return (errors or lines or ["it printed nothing"])[-1]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        output = (done.stderr or done.stdout).strip().splitlines() or ["it printed nothing"]
        raise InstallError(f"`{' '.join(command)}` failed: {output[-1]}")


def _say(line: str) -> None:
    print(f"task: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
