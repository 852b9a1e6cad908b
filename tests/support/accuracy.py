"""Realized error in plain NumPy, from the errors themselves and not from their sums."""

import numpy as np
from scipy import stats

from bundle.arrays import Floats

Z = float(stats.norm.ppf(0.975))
# What must be there for an interval to be shown: labels for a spread, and for a spread of squares.
MIN_LABELS, MIN_LABELS_RMSE = 20, 200


def student_quantile(labels: float) -> float:
    """Return the 97.5 % quantile of Student's t by Cornish and Fisher (1938), to second order."""
    degrees = labels - 1
    first = (Z**3 + Z) / 4
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    return float(Z + first / degrees + second / degrees**2)


def accuracy(errors: Floats, effect: float = 1.0) -> dict[str, float]:
    """Return each statistic of errors (prediction minus truth) by its name in the rules.

    `effect` is the design effect: how many labels weigh as much as one independent label.
    """
    size, rows = np.abs(errors), len(errors) / effect
    mae, rmse, bias = size.mean(), np.sqrt((errors**2).mean()), errors.mean()
    found = {"mae": mae, "rmse": rmse, "bias": bias}
    if rows < MIN_LABELS:
        return {name: float(value) for name, value in found.items()}
    t = student_quantile(rows)
    half = t * size.std() / np.sqrt(rows - 1)
    found["mae_ci lower"] = max(mae - half, 0)
    found["mae_ci upper"] = mae * np.exp(half / mae) if mae > 0 else np.nan
    half = t * errors.std() / np.sqrt(rows - 1)
    found |= {"bias_ci lower": bias - half, "bias_ci upper": bias + half}
    if rows >= MIN_LABELS_RMSE:
        relative = t / 2 * (errors**2).std() / rmse**2 / np.sqrt(rows)
        found["rmse_ci lower"] = rmse * np.exp(-relative)
        found["rmse_ci upper"] = rmse * np.exp(relative + 6 * relative**2)
    return {name: float(value) for name, value in found.items() if not np.isnan(value)}
