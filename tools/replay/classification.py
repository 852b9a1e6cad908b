"""Changes between two predicted classes."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from bundle.arrays import Floats
from tools.replay.log import Codes, Groups, Part, group_of
from tools.replay.verdict import accuracy_verdict

# Pairs of classes that are printed; the rarer ones are counted together.
_SHOWN = 20


class Classes:
    """The changes of one logged version, in 24 bytes a labelled prediction."""

    def __init__(self, codes: Codes) -> None:
        self._codes = codes
        self._accepted = 0
        self._changes: Counter[tuple[float, float]] = Counter()
        self._logged_right: list[Floats] = []
        self._replayed_right: list[Floats] = []
        # For each labelled row a number that equal rows share.
        self._groups: list[Groups] = []

    def add(self, part: Part, new: Floats, actual: Floats) -> None:
        """Add a part, with the other model's codes (n,) and those of the true classes, or NaN."""
        accepted = np.isfinite(new)
        self._accepted += int(accepted.sum())
        changed = accepted & (new != part.predictions)
        pairs = zip(part.predictions[changed].tolist(), new[changed].tolist(), strict=True)
        self._changes.update(pairs)
        known = accepted & np.isfinite(actual)
        self._logged_right.append((part.predictions == actual)[known].astype(np.float64))
        self._replayed_right.append((new == actual)[known].astype(np.float64))
        self._groups.append(group_of(part, known))

    def report(self) -> Iterator[str]:
        """Yield the lines of the comparison."""
        if not self._accepted:
            return
        changed = self._changes.total()
        yield f"different predictions: {changed / self._accepted:.1%}"
        yield from self._pairs()
        yield from self._accuracy()

    def _pairs(self) -> Iterator[str]:
        common = self._changes.most_common()
        for (before, after), rows in common[:_SHOWN]:
            yield f"{self._codes.name(before)} → {self._codes.name(after)}: {rows}"
        if rest := common[_SHOWN:]:
            yield f"{len(rest)} other pairs: {sum(rows for _, rows in rest)}"

    def _accuracy(self) -> Iterator[str]:
        """Yield the accuracy on labelled rows that both accepted, and which version is better."""
        logged, replayed = map(np.concatenate, (self._logged_right, self._replayed_right))
        if not logged.size:
            return
        yield f"labelled rows: {logged.size}"
        for name, right in (("logged", logged), ("replayed", replayed)):
            yield f"{name}: accuracy {right.mean():.4g}"
        verdict = accuracy_verdict(replayed - logged, np.concatenate(self._groups))
        yield f"accuracy, replayed minus logged: {verdict}"
