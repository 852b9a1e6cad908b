"""Files that are fully allocated before they are mapped.

Writing to a hole of a mapped file ends the process with SIGBUS once the file system is full.
"""

import errno
import mmap
import os
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)


class FullError(OSError):
    """The file system has no room for the file."""


def allocate(descriptor: int, start: int, size: int) -> None:
    """Extend a file of `start` bytes by `size` allocated bytes of 0.

    Raises FullError, after which the file is as long as before, or OSError.
    """
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, start, size)
        else:  # macOS
            os.pwrite(descriptor, bytes(size), start)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        os.ftruncate(descriptor, start)
        raise FullError(error.errno, "no room is left") from error


def map_shared(path: Path, size: int) -> mmap.mmap:
    """Map a file that processes share, created with bytes of 0. Raises OSError.

    Safe between processes: two that create it at once allocate the same bytes.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.fstat(descriptor).st_size < size:
            allocate(descriptor, 0, size)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
