"""The array types that the bundle and the service share."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
