"""From counters to alerts: which labels make an alert, and which do not."""

from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import Floats
from tests.support.drift import smoothed
from tests.support.promtool import check, series, started

LABELS = {"job": "model", "model": "loans", "version": "a"}
TRAINING = np.full(10, 128.0)
SHIFTED = np.array([0, 0, 0, 0, 0, 0, 0, 1, 2, 3.0])
MINUTES, TURN = 80, 30
MINUTE = np.arange(MINUTES + 1)
PER_MINUTE = 100


def always(value: float) -> Floats:
    """Return a fact."""
    return np.full(len(MINUTE), float(value))


def signal(feature: str, after: Floats) -> list[dict[str, str]]:
    """Return one feature's series: rows like training's until the turn, then like `after`."""
    labels = LABELS | {"feature": feature, "instance": "0"}
    shares = np.where(MINUTE[:, None] <= TURN, TRAINING / TRAINING.sum(), after / after.sum())
    rows = (PER_MINUTE * shares).cumsum(axis=0)
    bins = [labels | {"bin": f"{index:02}"} for index in range(10)]
    ratios = zip(bins, smoothed(TRAINING), strict=True)
    return [
        *(series("model_feature_bin_total", bin_, rows[:, i]) for i, bin_ in enumerate(bins)),
        *(series("model_feature_reference_ratio", bin_, always(ratio)) for bin_, ratio in ratios),
        series("model_feature_reference_rows", labels, always(TRAINING.sum())),
        series(*started({"instance": "0"}, len(MINUTE))),
    ]


def labels_of(error: float, after: float) -> list[dict[str, str]]:
    """Return half of the rows' labels: errors of ± `error`, and of ± `after` from the turn on."""
    labels = LABELS | {"age": "1h", "instance": "0"}
    size = np.where(MINUTE <= TURN, error, after)
    amounts = {
        "": np.ones_like(size),
        "_absolute_error_sum": size,
        "_squared_error_sum": size**2 * 1.5,
        "_quartic_error_sum": size**4 * 4,
        "_delay_seconds_sum": 60 * np.ones_like(size),
    }
    counters = [
        series(f"model_feedback{name}_total", labels, (PER_MINUTE / 2 * amount).cumsum())
        for name, amount in amounts.items()
    ]
    signs = [
        series("model_feedback_error_sum_total", labels | {"sign": sign}, size.cumsum())
        for sign in ("pos", "neg")
    ]
    promises = [
        series("model_validation_error", LABELS | {"statistic": statistic}, always(value))
        for statistic, value in {"cv_mae": 0.5, "cv_rmse": 0.62}.items()
    ]
    bins = [
        series("model_prediction_bin_absolute_error", LABELS | {"bin": f"{i:02}"}, always(0.5))
        for i in range(10)
    ]
    return [*counters, *signs, *promises, *bins]


@pytest.mark.parametrize(
    ("error", "inputs", "expected"),
    [
        pytest.param(0.5, TRAINING, set(), id="as promised"),
        pytest.param(0.56, TRAINING, set(), id="worse, but not by a tenth"),
        pytest.param(1.0, TRAINING, {"ModelWorseThanValidation", "ConceptDrift"}, id="concept"),
        pytest.param(1.0, SHIFTED, {"ModelWorseThanValidation", "FeatureDrift"}, id="inputs"),
        pytest.param(0.5, SHIFTED, {"FeatureDrift"}, id="drift without harm"),
    ],
)
def test_alerts_show_why_the_error_rose(
    tmp_path: Path, error: float, inputs: Floats, expected: set[str]
) -> None:
    """Half an hour as promised, then not: the error is laid to the inputs where they drifted."""
    firing = 'count by (alertname) (ALERTS{alertstate="firing", alertname!~"ModelDown|Watchdog"})'

    check(
        tmp_path,
        "1m",
        [*signal("ph", inputs), *signal("prediction", TRAINING), *labels_of(0.5, error)],
        [
            {"expr": firing, "eval_time": f"{TURN}m", "exp_samples": []},
            {
                "expr": firing,
                "eval_time": f"{MINUTES}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(expected)
                ],
            },
        ],
    )
