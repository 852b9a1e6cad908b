"""What the service tells of: a prediction, and later the truth about it."""

from collections.abc import Sequence

import msgspec


class Prediction(msgspec.Struct, gc=False):
    """What the estimator said of one row, at `time` (s since 1970), and the id to refer to it by.

    `features` are in the bundle's order, NaN where missing.
    """

    prediction_id: str
    time: float
    features: Sequence[float]
    prediction: float


class Label(msgspec.Struct, gc=False):
    """The truth about a prediction of some version, told at `time` (s since 1970)."""

    label_of: str
    time: float
    version: str
    actual: float
