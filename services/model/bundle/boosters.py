"""Cores that a boosting library evaluates itself: no pickle, and nothing of pandas, is needed.

Both are asked for one row by the library's own shortest way: XGBoost's `inplace_predict`, and
LightGBM's `LGBM_BoosterPredictForMatSingleRowFast`, which only its C interface has.
"""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats

Content = NDArray[np.uint8]

# LightGBM's C interface: C_API_DTYPE_FLOAT64 and C_API_PREDICT_NORMAL.
_FLOAT64 = 1
_NORMAL = 0


class XGBoost:
    """A booster as `Booster.save_raw` writes it.

    `trees` is the number of boosting rounds that count (0: all), as early stopping leaves them.
    Values equal to `missing` are missing, and zeros too if `zero_is_missing`, as XGBoost sees a
    sparse matrix.
    """

    library = "xgboost"
    # It takes 0.2 ms per call.
    checked_alone: int | None = 10_000

    def __init__(
        self, content: Content, *, trees: int, missing: float, zero_is_missing: bool
    ) -> None:
        import xgboost  # noqa: PLC0415 only these models need it

        self._content, self._trees = content, trees
        self._missing, self._zero_is_missing = missing, zero_is_missing
        self._booster = xgboost.Booster(model_file=bytearray(content.tobytes()))
        self._booster.set_param({"nthread": 1})

    def predict(self, rows: Floats) -> NDArray[np.float32]:
        """Return the outputs (n, m) of rows (n, k)."""
        if self._zero_is_missing:
            rows = np.where(rows == 0, np.nan, rows)
        found = self._booster.inplace_predict(
            rows,
            iteration_range=(0, self._trees),
            missing=self._missing,
            validate_features=False,
        )
        outputs: NDArray[np.float32] = found.reshape(len(rows), -1)
        return outputs

    def state(self) -> dict[str, Any]:
        """Return what makes it again."""
        return {
            "content": self._content,
            "trees": self._trees,
            "missing": self._missing,
            "zero_is_missing": self._zero_is_missing,
        }


class LightGBM:
    """A booster as `Booster.model_to_string` writes it, of rows with `width` columns.

    `trees` is the number of iterations that count (-1: all).
    """

    library = "lightgbm"
    checked_alone: int | None = None

    def __init__(self, content: Content, *, trees: int, width: int) -> None:
        import lightgbm  # noqa: PLC0415 only these models need it

        self._content, self._trees, self._width = content, trees, width
        self._booster = lightgbm.Booster(model_str=content.tobytes().decode())
        self._one = _SingleRow(self._booster, trees, width)

    def predict(self, rows: Floats) -> Floats:
        """Return the outputs (n, m) of rows (n, k)."""
        if len(rows) == 1:
            return self._one.predict(rows)
        found = self._booster.predict(rows, num_iteration=self._trees, num_threads=1)
        outputs: Floats = np.asarray(found).reshape(len(rows), -1)
        return outputs

    def state(self) -> dict[str, Any]:
        """Return what makes it again."""
        return {"content": self._content, "trees": self._trees, "width": self._width}


class _SingleRow:
    """Predicts one row at a time, with what LightGBM sets up once.

    It lives as long as its process does, so nothing frees the configuration.
    """

    def __init__(self, booster: Any, trees: int, width: int) -> None:  # noqa: ANN401
        from lightgbm.basic import _LIB, _safe_call  # noqa: PLC0415 as above

        self._call, self._check = _LIB.LGBM_BoosterPredictForMatSingleRowFast, _safe_call
        self._booster = booster  # the configuration refers to it
        self._configuration = ctypes.c_void_p()
        self._outputs = np.empty((1, booster.num_model_per_iteration()))
        self._length = ctypes.c_int64()
        self._places = (ctypes.byref(self._length), ctypes.c_void_p(self._outputs.ctypes.data))
        _safe_call(
            _LIB.LGBM_BoosterPredictForMatSingleRowFastInit(
                booster._handle,  # noqa: SLF001 its C interface needs it
                ctypes.c_int(_NORMAL),
                ctypes.c_int(0),
                ctypes.c_int(trees),
                ctypes.c_int(_FLOAT64),
                ctypes.c_int32(width),
                ctypes.c_char_p(b"num_threads=1"),
                ctypes.byref(self._configuration),
            )
        )

    def predict(self, row: Floats) -> Floats:
        """Return the outputs (1, m) of a row (1, k)."""
        row = np.ascontiguousarray(row, dtype=np.float64)
        place = ctypes.c_void_p(row.ctypes.data)
        self._check(self._call(self._configuration, place, *self._places))
        return self._outputs.copy()


Booster = XGBoost | LightGBM
BOOSTERS: dict[str, type[Booster]] = {each.library: each for each in (XGBoost, LightGBM)}


def content_of(data: bytes) -> Content:
    """Return bytes as an array, which NumPy's format holds."""
    return np.frombuffer(data, dtype=np.uint8)
