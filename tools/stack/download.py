"""Download releases into the user's cache, checked against their SHA-256."""

import hashlib
import http.client
import shutil
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from tools.stack.releases import PINS, Release, cache, release
from tools.stack.settings import StackError

CONNECT_SECONDS = 3.0
"""For names, addresses, TLS and redirects together: after that there is no network."""
_READ_SECONDS = 15.0
_PROGRESS_SECONDS = 4.0
_CHUNK = 1 << 18
# An archive, what is unpacked from it, and some room: its multiples on the disk.
_DISK_FACTOR = 5


class DownloadError(Exception):
    """Why a program cannot be downloaded, in one line."""


class Downloads:
    """Some releases on their way into the cache."""

    def __init__(self, directory: Path) -> None:
        self._cache = directory
        self._received: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        self._cancelled = threading.Event()

    def fetch(self, wanted: Sequence[Release]) -> dict[str, str]:
        """Fetch all at once, with progress; return the reason of each that failed, by program."""
        with ThreadPoolExecutor(len(wanted)) as pool:
            futures = {one.program: pool.submit(self._fetch, one) for one in wanted}
            try:
                self._report_until_end([*futures.values()])
            except BaseException:
                self._cancelled.set()
                raise
        return {name: reason for name, each in futures.items() if (reason := each.result())}

    def _report_until_end(self, futures: Sequence["Future[str | None]"]) -> None:
        while wait(futures, timeout=_PROGRESS_SECONDS).not_done:
            parts = [
                f"{name} {self._received[name] // 10**6} of {total // 10**6} MB"
                for name, total in self._totals.items()
            ]
            print(f"  downloading: {', '.join(parts)}" if parts else "  connecting", flush=True)

    def _fetch(self, one: Release) -> str | None:
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".partial-", dir=self._cache) as directory:
                self._bring(one, Path(directory))
        except (DownloadError, OSError, tarfile.TarError) as error:
            return str(error)
        return None

    def _bring(self, one: Release, directory: Path) -> None:
        wanted = PINS.get(one.archive) or published_checksum(one)
        archive = directory / one.archive
        found = self._download(f"{one.site}/{one.archive}", archive, one.program)
        if found != wanted:
            raise DownloadError(f"{one.archive} has SHA-256 {found}, not {wanted}: not used")
        unpack(archive, one.member, directory / "unpacked")
        (top,) = (directory / "unpacked").iterdir()
        target = self._cache / one.name
        shutil.rmtree(target, ignore_errors=True)
        top.rename(target)

    def _download(self, url: str, file: Path, program: str) -> str:
        """Write what an address holds to a file; return its SHA-256."""
        digest = hashlib.sha256()
        with connect(url) as answer, file.open("wb") as out:
            total = int(answer.headers.get("Content-Length") or 0)
            self._check_disk(total)
            self._received[program], self._totals[program] = 0, total
            while chunk := _read(answer, url):
                if self._cancelled.is_set():
                    raise DownloadError("interrupted")
                out.write(chunk)
                digest.update(chunk)
                self._received[program] += len(chunk)
        if total and self._received[program] != total:
            raise DownloadError(f"{url} ended after {self._received[program]} of {total} bytes")
        return digest.hexdigest()

    def _check_disk(self, total: int) -> None:
        needed, free = total * _DISK_FACTOR, shutil.disk_usage(self._cache).free
        if free < needed:
            raise DownloadError(
                f"{self._cache} needs {needed // 10**6} MB and has {free // 10**6} MB free"
            )


def fetch(programs: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Download programs; return the reason of each that failed, by program."""
    try:
        wanted = [release(program, environment) for program in programs]
    except StackError as error:
        return dict.fromkeys(programs, str(error))
    print(f"downloading {', '.join(one.name for one in wanted)}", flush=True)
    return Downloads(cache(environment)).fetch(wanted)


def connect(url: str) -> Any:  # noqa: ANN401 an http.client.HTTPResponse, to urllib
    """Open an address within CONNECT_SECONDS in all. Raises DownloadError.

    Looking up a name has no limit of its own: hence a thread, which may outlast the call.
    """
    opened: SimpleQueue[Any] = SimpleQueue()

    def open_it() -> None:
        try:
            opened.put(urllib.request.urlopen(url, timeout=_READ_SECONDS))  # noqa: S310 see _site
        except (OSError, http.client.HTTPException) as error:
            opened.put(error)

    threading.Thread(target=open_it, daemon=True).start()
    try:
        answer = opened.get(timeout=CONNECT_SECONDS)
    except Empty as error:
        host = urlsplit(url).netloc
        raise DownloadError(f"{host} does not answer within {CONNECT_SECONDS:g} s") from error
    if isinstance(answer, urllib.error.HTTPError):
        answer.close()
        raise DownloadError(f"{url} answers with status {answer.code}")
    if isinstance(answer, Exception):
        raise DownloadError(f"{urlsplit(url).netloc}: {getattr(answer, 'reason', answer)}")
    return answer


def _read(answer: Any, url: str) -> bytes:  # noqa: ANN401 see connect
    try:
        chunk: bytes = answer.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url} broke off: {error}") from error
    return chunk


def published_checksum(one: Release) -> str:
    """Return the SHA-256 that a release publishes for its archive. Raises DownloadError."""
    url = f"{one.site}/{one.checksums}"
    with connect(url) as answer:
        lines = [
            line.split() for line in _read(answer, url).decode("ascii", "replace").splitlines()
        ]
    for words in lines:
        # Prometheus lists "<hash>  <file>" for all its archives, Grafana publishes the hash alone.
        if words and words[1:] in ([], [one.archive], [f"*{one.archive}"]):
            return words[0].lower()
    raise DownloadError(f"{url} has no checksum of {one.archive}")


def unpack(archive: Path, member: str | None, directory: Path) -> None:
    """Unpack an archive, or one file of its one directory."""
    with tarfile.open(archive) as opened:
        # Python before 3.11.4 has no filter; the archive's checksum has been checked in any case.
        opened.extraction_filter = getattr(tarfile, "data_filter", None)
        members = [
            each
            for each in opened.getmembers()
            if member is None or each.name.removeprefix("./").split("/", 1)[1:] == [member]
        ]
        opened.extractall(directory, members)  # noqa: S202 checked against its SHA-256
