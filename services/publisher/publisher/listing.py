"""The files of a prediction log, in the order in which their events were spooled."""

from dataclasses import dataclass

from pyarrow.fs import FileSelector, FileSystem, FileType

from publisher.layout import TABLES, LogFile, Table, parse_path


@dataclass(frozen=True)
class Listed:
    """A file of the log, its path at the file system, and its size in bytes."""

    file: LogFile
    path: str
    bytes: int


def list_files(filesystem: FileSystem, root: str, *tables: Table) -> list[Listed]:
    """Return the files of some tables, or of all, by segment, day and version. Raises OSError."""
    found = [
        Listed(file, info.path, info.size or 0)
        for table in tables or TABLES
        for info in filesystem.get_file_info(
            FileSelector(f"{root}/{table}", allow_not_found=True, recursive=True)
        )
        if info.type == FileType.File and (file := parse_path(info.path))
    ]
    return sorted(found, key=lambda each: (each.file.segment, each.file.day, each.file.version))
