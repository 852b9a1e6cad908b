"""Write files of the prediction log, so that readers see all of a file or nothing of it."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from publisher.errors import StoppedError, TransientError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
# The object stores' names for errors, in the messages of pyarrow.
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|RESOURCE_NOT_FOUND|NOT_FOUND:")
_DENIED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|SIGNATURE_DOES_NOT_MATCH|"
    r"MISSING_AUTHENTICATION|UNRECOGNIZED_CLIENT|ExpiredToken|PERMISSION_DENIED|UNAUTHENTICATED"
)
_NO_CONNECTION = re.compile(r"NETWORK_CONNECTION|curlCode|UNAVAILABLE")
_MODE = 0o600
_GROUP = 0o060


class Store:
    """A root of the log; files are written whole or not at all.

    Writers of the same files differ in `mark`, the end of an unfinished file's name.
    """

    def __init__(self, filesystem: fs.FileSystem, root: str, mark: str = "") -> None:
        self.filesystem = filesystem
        self.root = root
        self._mark = mark

    def write(self, path: str, table: pa.Table) -> int:
        """Write a table to a path below the root, replacing what is there; return its bytes.

        Raises OSError.
        """
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        content = buffer.getvalue()
        if isinstance(self.filesystem, fs.LocalFileSystem):
            _write_local(Path(self.root), path, content, self._mark)
        else:
            with self.filesystem.open_output_stream(f"{self.root}/{path}") as stream:
                stream.write(content)
        return int(content.size)


def _write_local(root: Path, path: str, content: pa.Buffer, mark: str) -> None:
    """Write a file beside its place, then move it there; both survive a crash of the machine.

    Who may read a log is decided by its root: files are for its group if the root is.
    """
    root.mkdir(parents=True, exist_ok=True)
    target = root / path
    directory = _make_directory(root, target.parent)
    # The same name at each try, so that what a killed publisher left is replaced.
    unfinished = target.with_name(f".{target.name}{mark}")
    mode = _MODE | (stat.S_IMODE(root.stat().st_mode) & _GROUP)
    try:
        with unfinished.open("wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    _sync(directory)


def _make_directory(root: Path, directory: Path) -> Path:
    """Make a directory below the root, and those above it, each with the root's mode."""
    if not directory.is_dir():
        parent = _make_directory(root, directory.parent)
        directory.mkdir(exist_ok=True)
        directory.chmod(stat.S_IMODE(root.stat().st_mode))
        _sync(parent)
    return directory


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained(root: str) -> Iterator[None]:
    """Turn an OSError of the block into a TransientError or a StoppedError of one line."""
    try:
        yield
    except OSError as error:
        raise _explain(root, error) from error


def _explain(root: str, error: OSError) -> TransientError | StoppedError:
    reason = error.strerror or str(error).partition("\n")[0]
    message = f"PREDICTION_LOG: {root}: {reason}"
    if error.errno in _NO_ROOM:
        return TransientError("storage", message)
    if error.errno in _NOT_ALLOWED:
        return StoppedError("denied", message)
    if _NO_BUCKET.search(reason):
        return StoppedError("not_found", message)
    if _DENIED.search(reason):
        return StoppedError("denied", message)
    return TransientError("connection" if _NO_CONNECTION.search(reason) else "storage", message)
