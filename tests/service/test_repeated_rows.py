"""Rows that are sent again and again are no drift: real workers, Prometheus and rules."""

from pathlib import Path

import httpx
import numpy as np
import pytest
from scipy.stats import chi2

from tests.service.conftest import MINUTE_SECONDS, StartModel
from tests.support.example import Row
from tests.support.model import Model
from tests.support.prometheus import RULES, hurried, running_prometheus
from tests.support.recorded import Recorded, wait_for_rows

ROWS, MINUTES = 55, 3
# Any state: an alert would be pending for its first minutes.
ALERTS = 'ALERTS{alertname=~"FeatureDrift|FeatureDriftSudden|PredictionDrift|CorrelationDrift"}'


def send(model: Model, rows: list[Row]) -> None:
    """Predict rows, each batch on a connection of its own, so that every worker gets some."""
    for start in range(0, len(rows), 250):
        body = {"instances": rows[start : start + 250]}
        httpx.post(f"{model.url}/predict/batch", json=body, timeout=60).raise_for_status()


def drifts_if_independent(recorded: Recorded) -> set[str]:
    """Return the signals that would be drift if all rows were independent."""
    psi, rows = recorded("psi"), recorded("rows")
    trained, bins = recorded("reference_rows"), recorded("bins")
    scale = {name: 1 / rows[name] + 1 / trained[name] for name in psi}
    return {
        name
        for name in psi
        if psi[name] - (bins[name] - 1) * scale[name] > 0.1
        and psi[name] > chi2.isf(0.001, bins[name] - 1) * scale[name]
    }


@pytest.mark.parametrize("times", [10, 50])
def test_rows_that_come_many_times_raise_no_drift_alert(
    times: int, start_model: StartModel, held_out_inputs: list[Row], tmp_path: Path
) -> None:
    """55 held-out rows count as 55, however often each comes, at once or later: cannot tell."""
    random = np.random.default_rng(times)
    chosen = random.choice(len(held_out_inputs), ROWS, replace=False)
    order = random.permutation(np.repeat(chosen, times))
    rules = hurried(RULES, tmp_path / "rules", MINUTE_SECONDS)
    with (
        start_model() as model,
        running_prometheus(tmp_path, {"model": [model.metrics_url]}, rules) as prometheus,
    ):
        sent = 0
        for part in np.array_split(order, MINUTES):
            send(model, [held_out_inputs[index] for index in part])
            sent += len(part)
            recorded = wait_for_rows(prometheus, sent)

        effective = recorded("effective_rows")
        assert all(0.3 * ROWS < rows < 200 for rows in effective.values()), effective
        assert len(drifts_if_independent(recorded)) >= 3
        assert set(recorded("verdict").values()) == {-1}
        assert prometheus.query(f"count_over_time({ALERTS}[1h])") == []
