"""Where accuracy is worse than promised: by the labels, or to be expected without them.

What is compared is the statistic that the bundle chose, as in the alerts.
"""

from collections.abc import Iterator, Mapping

from tools.report.changes import LABELS, Change, by_labels
from tools.report.client import Prometheus
from tools.report.units import show

REGRESSION = {"mae": "mean absolute error", "rmse": "root mean squared error"}
_NAMES = {
    **REGRESSION,
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log loss",
    "brier": "Brier score",
    "auc": "area under the ROC curve",
}
# Shares of predictions that are right in some sense, of which more is better and 1 is perfect.
_SHARES = ("accuracy", "balanced_accuracy")
_SCORES = (*_SHARES, "macro_f1", "auc")
_ALERTS_ABOVE = 0.1
_REALIZED_WEIGHT, _EXPECTED_WEIGHT = 2e3, 1.5e3


def _or_mae(chosen: str, mae: str) -> str:
    """Return a query for what the bundle chose; the rules record the MAE under its own name."""
    return (
        f'{chosen} or label_replace({mae}, "statistic", "mae", "", "")'
        " unless on (job, model, version) model:headline_statistic"
    )


_REALIZED = _or_mae('model:headline{window="1d"}', 'model:mae{window="1d"}')
_PROMISED = _or_mae("model:promised_headline", "model:promised_mae")
EXCESS = _or_mae('model:loss_excess{window="1d"} > 0', 'model:mae_excess{window="1d"} > 0')
# Only an accuracy and a mean absolute error can be expected without labels, and only of predictions
# that are many enough to be judged at all. An accuracy is one of that many rows; 3.29 standard
# errors are the 99.9 % of the alerts.
_JUDGED = (
    "and on (job, model, version)"
    ' model_feature:verdict{feature="prediction",window="1h",reference="training"} >= 0'
)
_PROMISED_ACCURACY = " or ".join(
    f'max by (job, model, version) (model_validation_error{{statistic="{name}"}})'
    for name in ("cv_accuracy", "accuracy")
)
EXPECTED_ACCURACY = f"""
model:expected_accuracy{{window="1h"}}
and on (job, model, version)
  1 - model:expected_accuracy{{window="1h"}}
  - on (job, model, version) 3.29 * sqrt(
      model:expected_accuracy{{window="1h"}} * (1 - model:expected_accuracy{{window="1h"}})
    / on (job, model, version)
      model_feature:effective_rows{{feature="prediction",window="1h"}}
  )
  > on (job, model, version)
  1.1 * (1 - ({_PROMISED_ACCURACY}))
{_JUDGED}"""
EXPECTED_MAE = f"""
model:expected_mae{{window="1h"}} > on (job, model, version) 1.1 * model:promised_mae
{_JUDGED}"""


def changes(prometheus: Prometheus) -> Iterator[Change]:
    """Yield where labels show it; of the other models, where it is to be expected."""
    shown = dict(_realized(prometheus))
    yield from shown.values()
    for key, change in _expected(prometheus):
        if key not in shown:
            yield change


def _realized(prometheus: Prometheus) -> Iterator[tuple[tuple[str, ...], Change]]:
    realized, promised = (
        by_labels(prometheus, expr, *LABELS, "statistic") for expr in (_REALIZED, _PROMISED)
    )
    for key, excess in by_labels(prometheus, EXCESS, *LABELS, "statistic").items():
        model, statistic = key[1], key[3]
        text = (
            f"By the labels of the last day, the {_NAMES.get(statistic, statistic)} of {model} is"
            f" {_shown(statistic, realized.get(key))}; validation promised"
            f" {_shown(statistic, promised.get(key))}: {_worse(statistic, excess)}."
        )
        color = "red" if excess > _ALERTS_ABOVE else "orange"
        yield key[:3], Change(_REALIZED_WEIGHT, text, color, _href(statistic))


def _worse(statistic: str, excess: float) -> str:
    """Return the least by which it is worse; `excess` is in shares of the promised loss."""
    if statistic == "accuracy":
        return f"at least {show(1 + excess, 'none')} times as many errors as promised"
    if statistic in _SCORES:
        return f"at least {show(1 + excess, 'none')} times as far from 1 as promised"
    return f"worse by at least {show(excess, 'percentunit', 0)}"


def _expected(prometheus: Prometheus) -> Iterator[tuple[tuple[str, ...], Change]]:
    promised: Mapping[tuple[str, ...], float]
    for statistic, words, expected, promise in (
        ("accuracy", "an accuracy", EXPECTED_ACCURACY, _PROMISED_ACCURACY),
        ("mae", "a mean absolute error", EXPECTED_MAE, "model:promised_mae"),
    ):
        promised = by_labels(prometheus, promise, *LABELS)
        for key, value in by_labels(prometheus, expected, *LABELS).items():
            text = (
                f"Without labels, {key[1]} is estimated to have {words} of"
                f" {_shown(statistic, value)}; validation promised"
                f" {_shown(statistic, promised.get(key))}."
            )
            yield key, Change(_EXPECTED_WEIGHT, text, "orange", _href(statistic))


def _shown(statistic: str, value: float | None) -> str:
    if value is None:
        return "unknown"
    return show(value, "percentunit" if statistic in _SHARES else "none")


def _href(statistic: str) -> str:
    task = "regression" if statistic in REGRESSION else "classification"
    return f"#ml-accuracy-{task}"
