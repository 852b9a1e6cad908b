"""The events of the service: predictions, and later their labels."""

from collections.abc import Sequence

import msgspec

from bundle.encode import Cell
from bundle.manifest import Value


class Prediction(msgspec.Struct, gc=False, omit_defaults=True):
    """The prediction of one row at `time` (s since 1970), and the id that labels refer to.

    `features` are in the bundle's order, NaN (a category: None) where missing. The prediction is a
    number or a class; `probabilities` are in the order of the bundle's classes.
    """

    prediction_id: str
    time: float
    features: Sequence[Cell]
    prediction: Value
    probabilities: Sequence[float] | None = None


class Label(msgspec.Struct, gc=False):
    """The true value of a prediction of some version, received at `time` (s since 1970)."""

    label_of: str
    time: float
    version: str
    actual: Value
