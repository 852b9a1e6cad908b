"""The events of the service: predictions, and later their labels."""

from collections.abc import Sequence

import msgspec


class Prediction(msgspec.Struct, gc=False):
    """The prediction of one row at `time` (s since 1970), and the id that labels refer to.

    `features` are in the bundle's order, NaN where missing.
    """

    prediction_id: str
    time: float
    features: Sequence[float]
    prediction: float


class Label(msgspec.Struct, gc=False):
    """The true value of a prediction of some version, received at `time` (s since 1970)."""

    label_of: str
    time: float
    version: str
    actual: float
