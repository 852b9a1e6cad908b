"""Realized error in plain NumPy, from the errors themselves and not from their sums."""

import numpy as np

from bundle.arrays import Floats

Z = 1.96


def mean_ci95(values: Floats) -> float:
    """Return half the width of the 95 % interval of a mean."""
    return float(Z * values.std() / np.sqrt(len(values)))


def accuracy(errors: Floats) -> dict[str, float]:
    """Return each statistic of errors (prediction minus truth) by its name in the rules."""
    rmse = np.sqrt((errors**2).mean())
    return {
        "mae": float(np.abs(errors).mean()),
        "mae_ci95": mean_ci95(np.abs(errors)),
        "rmse": float(rmse),
        "rmse_ci95": mean_ci95(errors**2) / (2 * float(rmse)),
        "bias": float(errors.mean()),
        "bias_ci95": mean_ci95(errors),
    }
