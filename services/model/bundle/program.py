"""A compiled estimator: columns, a core that sums, and a link to the outputs.

Why it exists: see bundle.trees. It needs NumPy alone, and no time per call that scikit-learn and
pandas take to check and to convert. Its outputs have the estimator's bits if its core is of trees,
and differ by at most 1e-12 if it is linear; bundle.compile checks that on every training row. The
core may be a boosting library's own, too (bundle.boosters).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bundle import columns
from bundle.arrays import Floats
from bundle.boosters import BOOSTERS, Booster
from bundle.columns import Columns
from bundle.nodes import Nodes
from bundle.trees import TreeTables


class Core(Protocol):
    """Sums: rows (n, k) to raw outputs (n, m)."""

    def predict(self, rows: Floats) -> Any:  # noqa: ANN401 of float64, or float32 if XGBoost's
        """Return the raw outputs (n, m) of rows (n, k)."""


@dataclass(frozen=True)
class Linear:
    """A linear model with coefficients (k, m) and intercepts (m,)."""

    coefficients: Floats
    intercepts: Floats

    def predict(self, rows: Floats) -> Floats:
        """Return the raw outputs (n, m) of rows (n, k)."""
        result: Floats = rows @ self.coefficients + self.intercepts
        return result


@dataclass(frozen=True)
class Boosted:
    """One table of trees (see bundle.trees) for each of m outputs.

    NumPy sums the outputs of a row in an order that depends on their order in memory: `order`.
    """

    tables: Sequence[TreeTables]
    order: str

    def predict(self, rows: Floats) -> Floats:
        """Return the raw outputs (n, m) of rows (n, k)."""
        outputs = np.array([each.predict(rows) for each in self.tables]).T
        return outputs if self.order == "F" else np.ascontiguousarray(outputs)


def _value(raw: Floats) -> Floats:
    return raw[:, 0]


def _exponential(raw: Floats) -> Floats:
    return np.exp(raw[:, 0])


def _logistic(raw: Floats) -> Floats:
    """Return the probabilities (n, 2) of log-odds (n, 1), with the bits of scikit-learn's."""
    from scipy.special import expit  # noqa: PLC0415 only these models need it

    second = expit(raw[:, 0])
    return np.column_stack([1 - second, second])


def _softmax(raw: Floats) -> Floats:
    powers = np.exp(raw - raw.max(axis=1, keepdims=True))
    result: Floats = powers / powers.sum(axis=1, keepdims=True)
    return result


def _complement(raw: Floats) -> Floats:
    """Return the probabilities (n, 2) of that of the second class (n, 1), in its precision."""
    second = raw[:, 0]
    return np.column_stack([1 - second, second])


def _probabilities(raw: Floats) -> Floats:
    return raw


LINKS: dict[str, Callable[[Floats], Floats]] = {
    "value": _value,
    "exponential": _exponential,
    "logistic": _logistic,
    "softmax": _softmax,
    "complement": _complement,
    "probabilities": _probabilities,
}


@dataclass(frozen=True)
class Program:
    """A compiled estimator, from codes (n, k) to outputs (see bundle.estimator)."""

    columns: Columns
    core: Core
    link: str

    def predict(self, codes: Floats) -> Floats:
        """Return the outputs of codes. Raises ValueError where the estimator does."""
        outputs = LINKS[self.link](self.core.predict(self.columns.of(codes)))
        return np.asarray(outputs, dtype=np.float64)

    def to_bytes(self) -> bytes:
        """Return the arrays in NumPy's format, after a description of what they are."""
        arrays: list[NDArray[Any]] = []
        state = {
            "columns": columns.state(self.columns),
            "link": self.link,
            **_core_state(self.core),
        }
        text = json.dumps(state, default=lambda array: _place(arrays, array))
        buffer = BytesIO()
        for each in (np.frombuffer(text.encode(), dtype=np.uint8), *arrays):
            np.save(buffer, each, allow_pickle=False)
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path) -> "Program":
        """Return the program that `to_bytes` wrote; nothing is unpickled."""
        with path.open("rb") as file:
            text = np.load(file, allow_pickle=False).tobytes()
            state = json.loads(text)
            arrays = [np.load(file, allow_pickle=False) for _ in range(_count(state))]
        state = _fill(state, arrays)
        return cls(columns.restore(state["columns"]), _core(state), state["link"])


def _place(arrays: list[NDArray[Any]], array: Any) -> dict[str, int]:  # noqa: ANN401
    arrays.append(np.asarray(array))
    return {"array": len(arrays) - 1}


def _count(state: Any) -> int:  # noqa: ANN401
    if isinstance(state, dict):
        return 1 if state.keys() == {"array"} else sum(map(_count, state.values()))
    return sum(map(_count, state)) if isinstance(state, list) else 0


def _fill(state: Any, arrays: Sequence[NDArray[Any]]) -> Any:  # noqa: ANN401
    if isinstance(state, dict):
        if state.keys() == {"array"}:
            return arrays[state["array"]]
        return {name: _fill(value, arrays) for name, value in state.items()}
    return [_fill(each, arrays) for each in state] if isinstance(state, list) else state


def _core_state(core: Core) -> dict[str, Any]:
    if isinstance(core, Boosted):
        return {"boosted": [asdict(table) for table in core.tables], "order": core.order}
    if isinstance(core, Nodes):
        return {"nodes": {each.name: getattr(core, each.name) for each in fields(core)}}
    if isinstance(core, Linear):
        return {"linear": asdict(core)}
    if isinstance(core, Booster):
        return {core.library: core.state()}
    raise TypeError(type(core).__name__)


def _core(state: dict[str, Any]) -> Core:
    if "boosted" in state:
        return Boosted([TreeTables(**each) for each in state["boosted"]], state["order"])
    if "nodes" in state:
        return Nodes(**state["nodes"])
    for library, booster in BOOSTERS.items():
        if library in state:
            return booster(**state[library])
    return Linear(**state["linear"])
