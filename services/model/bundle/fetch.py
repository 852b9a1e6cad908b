"""Download a bundle: `python -m bundle.fetch DIRECTORY`, with the standard library alone.

MODEL_BUNDLE_URL is the https address of an archive (.tar.gz or .zip) of a bundle's files, for
example one that an object store has signed; it is a credential, and is not logged.
MODEL_BUNDLE_SHA256 is the archive's hash, which is checked before anything is unpacked.
"""

import argparse
import contextlib
import hashlib
import http
import http.client
import os
import re
import shutil
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

MAX_BYTES = 500_000_000
_MAX_FILES = 100
_SCHEME = "https"
_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 30
_TRIES = 3
_PAUSE_SECONDS = 2.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FetchError(Exception):
    """The bundle cannot be had; the message is one line without the address's secrets."""


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirects from https to https only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        *rest: Any,  # noqa: ANN401
    ) -> urllib.request.Request | None:
        request = super().redirect_request(req, fp, *rest)
        if request is not None and request.type != _SCHEME:
            fp.close()
            raise FetchError(f"it redirects to {request.type}, which is not encrypted")
        return request


def fetch(url: str, sha256: str, directory: Path, max_bytes: int = MAX_BYTES) -> None:
    """Download an archive, check its hash, and unpack it as `directory`, as a whole or not at all.

    An archive and its content may each have `max_bytes`. Raises FetchError.
    """
    _check(url, sha256)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory.parent) as place:
        archive, content = Path(place, "archive"), Path(place, "content")
        _download(url, archive, max_bytes)
        _check_hash(archive, sha256)
        content.mkdir()
        _unpack(archive, content, max_bytes)
        shutil.rmtree(directory, ignore_errors=True)
        content.rename(directory)


def _check(url: str, sha256: str) -> None:
    if urlsplit(url).scheme != _SCHEME:
        raise FetchError("MODEL_BUNDLE_URL is not an https:// address")
    if not _SHA256.fullmatch(sha256):
        raise FetchError("MODEL_BUNDLE_SHA256 must be the archive's SHA-256: 64 hexadecimal digits")


def _download(url: str, archive: Path, max_bytes: int) -> None:
    """Download, and try again if the connection breaks or the server is overloaded."""
    for number in range(1, _TRIES + 1):
        try:
            _download_once(url, archive, max_bytes)
        except _TemporaryError as error:
            if number == _TRIES:
                raise FetchError(f"{_named(url)}: {error}") from None
            time.sleep(_PAUSE_SECONDS)
        except FetchError as error:
            raise FetchError(f"{_named(url)}: {error}") from None
        else:
            return


class _TemporaryError(Exception):
    """A failure that another try may not have."""


def _download_once(url: str, archive: Path, max_bytes: int) -> None:
    opener = urllib.request.build_opener(_OnlyHttps)
    try:
        with opener.open(url, timeout=_TIMEOUT_SECONDS) as answer, archive.open("wb") as file:
            _copy(answer, file, max_bytes, max_bytes)
            length = answer.headers.get("Content-Length")
            if length is not None and file.tell() != int(length):
                raise _TemporaryError(f"it ends after {file.tell()} of {length} bytes")
    except urllib.error.HTTPError as error:
        kind = (
            _TemporaryError if error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR else FetchError
        )
        raise kind(f"HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _TemporaryError(str(error.reason)) from None
    except (OSError, http.client.HTTPException) as error:
        raise _TemporaryError(f"{type(error).__name__}: {error}") from None


def _named(url: str) -> str:
    """Return an address without its query and user, which are secrets."""
    parts = urlsplit(url)
    return f"{_SCHEME}://{parts.hostname}{parts.path}"


def _copy(source: Any, target: IO[bytes], left: int, max_bytes: int) -> None:  # noqa: ANN401
    while chunk := source.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise FetchError(f"it has more than {max_bytes:,} bytes")
        target.write(chunk)


def _check_hash(archive: Path, sha256: str) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise FetchError(f"the archive's SHA-256 is {found}, not {sha256}")


def _unpack(archive: Path, directory: Path, max_bytes: int) -> None:
    """Unpack regular files only, into one directory. Raises FetchError."""
    left, names = max_bytes, set[str]()
    try:
        with contextlib.closing(_files(archive)) as files:
            for path, file in files:
                with file:
                    name = _plain(path)
                    if name in names or len(names) == _MAX_FILES:
                        raise FetchError(f"{path}: twice this name, or over {_MAX_FILES} files")
                    names.add(name)
                    left -= _write(file, directory / name, left, max_bytes)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise FetchError(f"the archive cannot be unpacked: {reason}") from None
    if "bundle.json" not in names:
        raise FetchError("the archive has no bundle.json")


def _write(file: IO[bytes], path: Path, left: int, max_bytes: int) -> int:
    with path.open("xb") as target:
        _copy(file, target, left, max_bytes)
        return target.tell()


def _plain(path: str) -> str:
    """Return a file's name: it stands in the archive itself, or in one directory."""
    parts = path.removeprefix("./").split("/")
    if len(parts) > 2 or not all(re.fullmatch(r"\w[\w.-]*", each) for each in parts):  # noqa: PLR2004
        raise FetchError(f"the archive has the path {path!r}, which is no file of a bundle")
    return parts[-1]


def _files(archive: Path) -> Generator[tuple[str, IO[bytes]], None, None]:
    """Yield the path and the content of each file. Raises FetchError for links and devices."""
    if zipfile.is_zipfile(archive):
        yield from _files_of_zip(archive)
        return
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            if member.isdir():
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise FetchError(f"the archive has {member.name!r}, which is not a regular file")
            yield member.name, content


def _files_of_zip(archive: Path) -> Generator[tuple[str, IO[bytes]], None, None]:
    with zipfile.ZipFile(archive) as found:
        for info in found.infolist():
            if info.is_dir():
                continue
            kind = info.external_attr >> 16 & 0o170000
            if kind not in (0, 0o100000):
                raise FetchError(f"the archive has {info.filename!r}, which is not a regular file")
            yield info.filename, found.open(info)


def main() -> None:
    """Fetch; a fault is one line on standard error and exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path, help="where the bundle goes")
    directory = parser.parse_args().directory
    try:
        url, sha256 = (
            os.environ.get(name, "").strip() for name in ("MODEL_BUNDLE_URL", "MODEL_BUNDLE_SHA256")
        )
        limit = int(os.environ.get("MODEL_BUNDLE_MAX_BYTES") or MAX_BYTES)
        fetch(url, sha256.lower(), directory, limit)
    except (FetchError, OSError, ValueError) as error:
        sys.exit(f"fetch: {error}")
    print(f"fetched the bundle {sha256[:12]} into {directory}")  # noqa: T201 the pod's log


if __name__ == "__main__":
    main()
