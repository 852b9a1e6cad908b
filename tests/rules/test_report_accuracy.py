"""What the report and the overview ask about accuracy, on series whose values are known."""

from pathlib import Path

import pytest
import yaml

from tests.support.grafana import dashboard, panels, substitute
from tests.support.promtool import run
from tools.report.accuracy import EXCESS, EXPECTED_ACCURACY, EXPECTED_MAE

MODEL = 'job="model",model="m",version="a"'
HOUR, DAY = f'{MODEL},window="1h"', f'{MODEL},window="1d"'
VERDICT = f'model_feature:verdict{{{HOUR},feature="prediction",reference="training"}}'
ROWS = f'model_feature:effective_rows{{{HOUR},feature="prediction"}}'
INFO = f"model_info{{{MODEL}}}"
CHOSEN = f'model:headline_statistic{{{MODEL},statistic="rmse"}}'
MAE_EXCESS, LOSS_EXCESS = (
    f"model:mae_excess{{{DAY}}}",
    f'model:loss_excess{{{DAY},statistic="rmse"}}',
)


def check(
    expr: str, series: dict[str, float], samples: list[dict[str, object]], path: Path
) -> None:
    """Check the answer to a query about series that do not change."""
    inputs = [{"series": name, "values": f"{value}x2"} for name, value in series.items()]
    test = {"expr": expr, "eval_time": "1m", "exp_samples": samples}
    group = {"interval": "1m", "input_series": inputs, "promql_expr_test": [test]}
    file = path / "accuracy.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [group]}))
    run(file)


@pytest.mark.parametrize(
    ("accuracy", "rows", "verdict", "shown"),
    [
        (0.95, 1000, 0, 1),
        (0.95, 1000, 1, 1),
        (0.95, 1000, -1, 0),
        (0.95, 300, 0, 0),
        (0.985, 1000, 0, 0),
    ],
    ids=["far off", "drifted", "cannot tell", "by chance", "near"],
)
def test_an_accuracy_to_expect_is_told_where_chance_does_not_explain_it(
    accuracy: float, rows: int, verdict: int, shown: int, tmp_path: Path
) -> None:
    """Validation promised 98.9 %: with few rows, or few more errors, nothing is said."""
    name = f"model:expected_accuracy{{{HOUR}}}"
    series = {
        name: accuracy,
        f'model_validation_error{{{MODEL},instance="x",statistic="cv_accuracy"}}': 0.989,
        f'model_validation_error{{{MODEL},instance="x",statistic="accuracy"}}': 0.5,
        VERDICT: verdict,
        ROWS: rows,
    }

    check(EXPECTED_ACCURACY, series, [{"labels": name, "value": accuracy}] * shown, tmp_path)


@pytest.mark.parametrize(("error", "verdict", "shown"), [(0.6, 1, 1), (0.6, -1, 0), (0.52, 0, 0)])
def test_an_error_to_expect_is_told_above_a_tenth_of_the_promise(
    error: float, verdict: int, shown: int, tmp_path: Path
) -> None:
    """Of predictions that are many enough to be judged."""
    name = f"model:expected_mae{{{HOUR}}}"
    series = {name: error, f"model:promised_mae{{{MODEL}}}": 0.5, VERDICT: verdict}

    check(EXPECTED_MAE, series, [{"labels": f"{{{MODEL}}}", "value": error}] * shown, tmp_path)


def test_the_error_that_the_bundle_did_not_choose_is_not_told(tmp_path: Path) -> None:
    """A regression that is judged by its RMSE is not called worse for its MAE."""
    series = {MAE_EXCESS: 0.3, LOSS_EXCESS: 0.2}
    mae = {"labels": f'model:mae_excess{{{DAY},statistic="mae"}}', "value": 0.3}
    rmse = {"labels": LOSS_EXCESS, "value": 0.2}

    check(EXCESS, {**series, CHOSEN: 1}, [rmse], tmp_path)
    check(EXCESS, {MAE_EXCESS: 0.3}, [mae], tmp_path)
    check(EXCESS, {MAE_EXCESS: -0.1}, [], tmp_path)


@pytest.mark.parametrize(
    ("series", "verdict", "accuracy"),
    [
        ({}, -1, -1),
        ({VERDICT: -1}, -1, -1),
        ({VERDICT: 0}, -2, -1),
        ({VERDICT: 0, MAE_EXCESS: -0.2}, 0, 0),
        ({VERDICT: 0, LOSS_EXCESS: -0.2, CHOSEN: 1}, 0, 0),
        ({VERDICT: 1, MAE_EXCESS: -0.2}, 2, 0),
        ({VERDICT: 1, MAE_EXCESS: 0.2}, 3, 1),
        ({VERDICT: 0, LOSS_EXCESS: 0.2, CHOSEN: 1}, 3, 1),
        ({VERDICT: 0, MAE_EXCESS: 0.2, LOSS_EXCESS: 0.05, CHOSEN: 1}, 0, 0),
        ({VERDICT: 0, MAE_EXCESS: 0.2, CHOSEN: 1}, -2, -1),
    ],
)
def test_the_verdict_knows_what_is_not_known(
    series: dict[str, float], verdict: int, accuracy: int, tmp_path: Path
) -> None:
    """It calls nothing "as promised" without a judgement, and judges by the chosen statistic."""
    [table] = [panel for panel in panels(dashboard("overview")) if panel["title"] == "Verdict"]
    labels = '{model="m",version="a"}'

    for ref, value in (("A", verdict), ("E", accuracy)):
        [expr] = [each["expr"] for each in table["targets"] if each["refId"] == ref]
        samples: list[dict[str, object]] = [{"labels": labels, "value": value}]
        check(substitute(expr, {"job": "model"}), {INFO: 1, **series}, samples, tmp_path)
