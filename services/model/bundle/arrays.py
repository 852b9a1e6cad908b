"""The array types of the bundle and the service."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
