"""Read a kept spool as a prediction log."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from publisher.events import Label, Prediction, decoder
from publisher.header import DamagedHeaderError, Header, UnknownHeaderError, read_header
from publisher.spool import LABEL
from tools.replay.log import Log, ReplayError


class SpoolLog(Log):
    """The segments of a spool."""

    def __init__(self, segments: Sequence[Path]) -> None:
        super().__init__()
        self._segments = segments

    def predictions(self) -> Iterator[tuple[Header, Iterable[Prediction]]]:
        """Yield the predictions, a segment at a time; count damaged lines and segments."""
        for path in self._segments:
            lines = _lines(path)
            try:
                header = _header(path, lines)
            except DamagedHeaderError:
                self.damage.files += 1
                continue
            yield header, self._decoded(header, lines)

    def label_events(self) -> Iterator[tuple[Header, Iterable[Label]]]:
        """Yield the labels, a segment at a time; `predictions` counts the damage."""
        for path in self._segments:
            lines = _lines(path)
            try:
                header = _header(path, lines)
            except DamagedHeaderError:
                continue
            yield header, _labels(header, lines)

    def _decoded(self, header: Header, lines: Iterable[bytes]) -> Iterator[Prediction]:
        decode = {kind: decoder(header, kind) for kind in ("prediction", "label")}
        for line in lines:
            event = _try(decode["label" if line.startswith(LABEL) else "prediction"], line)
            if event is None:
                self.damage.lines += 1
            elif isinstance(event, Prediction):
                yield event


def _labels(header: Header, lines: Iterable[bytes]) -> Iterator[Label]:
    decode = decoder(header, "label")
    for line in lines:
        if line.startswith(LABEL) and isinstance(each := _try(decode, line), Label):
            yield each


def _header(path: Path, lines: Iterator[bytes]) -> Header:
    """Return a segment's header. Raises DamagedHeaderError and ReplayError."""
    try:
        return read_header(next(lines, b""))
    except UnknownHeaderError as error:
        raise ReplayError(f"{path} has a format that is not known here: {error}") from error


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the complete lines of a file, without their line feed and without erased ones."""
    with path.open("rb") as file:
        yield from (line[:-1] for line in file if line.endswith(b"\n") and not line.isspace())


def _try(decode: Callable[[bytes], Prediction | Label], line: bytes) -> Prediction | Label | None:
    try:
        return decode(line)
    except ValueError:
        return None
