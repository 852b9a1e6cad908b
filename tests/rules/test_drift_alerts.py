"""From counters to alerts: which rows make an alert, and which do not."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.drift import smoothed
from tests.support.promtool import check, series

LABELS = {"job": "model", "model": "loans", "version": "a"}
TRAINING = np.full(10, 128.0)
SHIFTED = np.array([0, 0, 0, 0, 0, 0, 0, 1, 2, 3.0])
MINUTES = 60


def counters(
    feature: str, before: np.ndarray, after: np.ndarray, turn: int
) -> list[dict[str, str]]:
    """Return one feature's series: 100 rows a minute, like `before` until `turn`, then `after`."""
    labels = LABELS | {"feature": feature}
    minute = np.arange(MINUTES + 1)[:, None]
    shares = np.where(minute <= turn, before / before.sum(), after / after.sum())
    shares[0] = 0
    rows = (100 * shares).cumsum(axis=0)
    ratio = smoothed(TRAINING)
    ones = np.ones(MINUTES + 1)
    bins = [labels | {"bin": f"{index:02}"} for index in range(10)]
    return [
        *(series("model_feature_bin_total", b, rows[:, i]) for i, b in enumerate(bins)),
        *(series("model_feature_reference_ratio", b, ratio[i] * ones) for i, b in enumerate(bins)),
        series("model_feature_reference_rows", labels, TRAINING.sum() * ones),
    ]


@pytest.mark.parametrize(
    ("feature", "alert"), [("ph", "FeatureDrift"), ("prediction", "PredictionDrift")]
)
def test_shift_of_one_signal_fires_its_alert_alone(
    tmp_path: Path, feature: str, alert: str
) -> None:
    """Half an hour of steady rows, then others: half an hour later the alert fires."""
    inputs = counters("density", TRAINING, TRAINING, 30) + counters(feature, TRAINING, SHIFTED, 30)
    firing = 'ALERTS{alertstate="firing",alertname!~"ModelDown|Watchdog"}'
    fired = {"alertname": alert, "alertstate": "firing", "severity": "ticket", "feature": feature}
    fired |= {"window": "1h", "reference": "training"}
    words = ",".join(f'{key}="{value}"' for key, value in (fired | LABELS).items())

    check(
        tmp_path,
        "1m",
        inputs,
        [
            {"expr": firing, **case}
            for case in (
                {"eval_time": "30m", "exp_samples": []},
                {"eval_time": "34m", "exp_samples": []},
                {
                    "eval_time": "60m",
                    "exp_samples": [{"labels": f"ALERTS{{{words}}}", "value": 1}],
                },
            )
        ],
    )
