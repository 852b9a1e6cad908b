"""Open a prediction log: a kept spool, or Parquet files in a directory or an object store."""

from collections.abc import Sequence
from pathlib import Path

from tools.replay.log import Log, ReplayError
from tools.replay.spool_log import SpoolLog

_SUFFIX = ".jsonl"
_TABLES = ("predictions", "labels")


def open_log(places: Sequence[str]) -> Log:
    """Return the log in segments or directories of them, or in one root of Parquet files.

    Without any place, it is the stack's, PREDICTION_LOG. Raises ReplayError.
    """
    if not any(map(_is_parquet, places)) and places:
        return SpoolLog([segment for place in places for segment in _segments(Path(place))])
    if len(places) > 1:
        raise ReplayError("a log of Parquet files can only be compared by itself: name one")
    return _parquet_log(places[0] if places else None)


def _is_parquet(place: str) -> bool:
    return "://" in place or any((Path(place) / table).is_dir() for table in _TABLES)


def _segments(path: Path) -> list[Path]:
    if path.is_dir():
        if not (found := sorted(path.glob(f"*{_SUFFIX}"), key=lambda each: each.name)):
            raise ReplayError(f"{path} holds neither segments (*{_SUFFIX}) nor Parquet files")
        return found
    if not path.is_file():
        raise ReplayError(f"{path} does not exist")
    return [path]


def _parquet_log(place: str | None) -> Log:
    try:
        from tools.log.errors import LogError  # noqa: PLC0415 a spool needs no pyarrow
        from tools.log.location import find_log  # noqa: PLC0415
        from tools.replay.parquet_log import ParquetLog  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ReplayError("reading Parquet files needs pyarrow: run ./task deps:log") from error
    try:
        return ParquetLog(find_log(place))
    except LogError as error:
        raise ReplayError(str(error)) from error
