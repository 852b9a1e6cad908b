"""Spools for tests: a small model, and a writer process that can be killed like a worker."""

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from bundle.manifest import Bin, Feature, Manifest, Quantity, Reference, Validation
from serving.events import Label, Prediction
from serving.spool import Spool
from serving.spool_room import Limits, Outcome

LIMITS = Limits(max_bytes=1_000_000, segment_bytes=100_000, segment_seconds=60.0)
FEATURES = ("ph", "shelf")


def small_manifest(version: str = "abc") -> Manifest:
    """Return the manifest of a model with a number and a nullable integer."""
    return Manifest.model_construct(
        format=1,
        name="loans",
        version=version,
        task="regression",
        algorithm="Nothing",
        target=Quantity(name="quality", description="Grade", minimum=0, maximum=10),
        features=(
            Feature(name="ph", description="Acidity"),
            Feature(name="shelf", description="Shelf", type="integer", nullable=True),
        ),
        rows=3,
        reference=tuple(map(_reference, (*FEATURES, "prediction"))),
        validation=Validation(mae=1, rmse=1, rows=1, cv_mae=1, cv_rmse=1, cv_folds=5),
        libraries={},
        files={},
    )


def _reference(name: str) -> Reference:
    bins = (Bin(bin="00", range="all", count=3, ratio=1.0),)
    return Reference(name=name, edges=(), bins=bins, mean=3, sigma=1, minimum=2, maximum=4)


def small_spool(
    *directories: Path,
    limits: Limits = LIMITS,
    version: str = "abc",
    excluded: Collection[str] = (),
) -> tuple[Spool, Counter[Outcome]]:
    """Return a spool, with a directory for each reader, and the counts of its outcomes."""
    counts: Counter[Outcome] = Counter()

    def count(outcome: Outcome, events: int) -> None:
        counts[outcome] += events

    return Spool(directories, small_manifest(version), limits, count, excluded), counts


def spool_of(directory: Path, manifest: Manifest, events: Iterable[Prediction | Label]) -> None:
    """Write a closed segment of a model's events."""
    spool = Spool((directory,), manifest, LIMITS, lambda _, __: None)
    spool.append([*events])
    spool.close()


def predictions(ids: Iterable[str], now: float = 1_764_000_000.25) -> list[Prediction | Label]:
    """Return one prediction per id."""
    return [Prediction(each, now, (3.5, 2.0), 5.5) for each in ids]


def label(of: str, actual: float = 6.0, version: str = "abc") -> Label:
    """Return the label of a prediction."""
    return Label(of, 1_764_000_900.5, version, actual)


def lines(directory: Path) -> list[dict[str, Any]]:
    """Return the events of all complete lines, segment by segment, without the headers."""
    found: list[dict[str, Any]] = []
    for path in sorted(directory.glob("*.jsonl")):
        content = path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1].splitlines()
        found += map(json.loads, complete[1:])
    return found


def main() -> None:
    """Spool as a worker does: `python -m tests.support.spool DIR NAME COUNT IDS`.

    Prints `p ID` or `l ID` as soon as an event is accepted. All writers append their prediction ids
    to the file IDS and label ids from it, so a label may come from another writer.
    """
    directory, name, count, shared = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    seed = random.Random(name)  # noqa: S311
    limits = Limits(max_bytes=100_000_000, segment_bytes=20_000, segment_seconds=0.5)
    spool, counts = small_spool(directory, limits=limits)
    writer = _Writer(spool, counts)
    with Path(shared).open("a+b", buffering=0) as file:
        for batch in range(count):
            ids = [f"{name}-{batch}-{i}" for i in range(seed.randint(1, 20))]
            written = writer.append("p", ids, predictions(ids, time.time()))
            file.write("".join(f"{each}\n" for each in written).encode())
            if batch % 3 == 2:
                known = Path(shared).read_bytes()[-4000:].splitlines()[1:]
                ids = sorted({each.decode() for each in seed.sample(known, min(5, len(known)))})
                writer.append("l", ids, [label(each, float(len(each))) for each in ids])
            # Slows the traffic down, so that it lasts longer than the faults.
            time.sleep(0.005)
    spool.close()


class _Writer:
    """Appends events and prints those that are on disk: a full disk takes a part of them."""

    def __init__(self, spool: Spool, counts: Counter[Outcome]) -> None:
        self._spool = spool
        self._counts = counts

    def append(self, kind: str, ids: list[str], events: list[Prediction | Label]) -> list[str]:
        """Spool events and return the ids of those that were written."""
        before = self._counts["written"]
        self._spool.append(events)
        written = ids[: self._counts["written"] - before]
        print("\n".join(f"{kind} {each}" for each in written), flush=True)  # noqa: T201
        return written


if __name__ == "__main__":
    main()
