"""Run Evidently and NannyML at their defaults over rows, in the environment that has them.

`python peers.py`: each line of the input names an .npz file with `training` (n, signals), a clean
`reference` and the `values` with the minute of each row, and the chunk's minutes; each line of the
output is a JSON object of peer, signal and the chunks that alarm. Nothing else of this project is
imported: the environment is not its own.
"""

import json
import os
import sys
import warnings
from importlib.metadata import version
from typing import Any, TypeAlias

# Both packages report their use over the network unless these are set: NannyML's usage_logging.py
# and Evidently's telemetry.py read them. They must be set before the import.
os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
os.environ["NML_DISABLE_USER_ANALYTICS"] = "1"
os.environ["DO_NOT_TRACK"] = "1"
warnings.simplefilter("ignore")

import nannyml  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from evidently import Report  # noqa: E402
from evidently.legacy.calculations.stattests import get_stattest  # noqa: E402
from evidently.legacy.core import ColumnType  # noqa: E402
from evidently.metrics import ValueDrift  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

Values = NDArray[np.float64]
Numbers = NDArray[np.int64]
Frame = pd.DataFrame
Series: TypeAlias = "pd.Series[float]"
Times: TypeAlias = "pd.Series[pd.Timestamp]"

START = pd.Timestamp("2026-01-05")
# Minutes of a chunk, by the name that pandas has for it.
PERIODS = {"h": 60, "d": 1_440}


def evidently(training: Values, chunks: list[Values]) -> list[list[int]]:
    """Return by signal the chunks that ValueDrift reports as drift.

    By the test that the report chooses and its threshold, without its figures: with them a chunk
    takes a hundred times as long. `check_evidently` compares both.
    """
    alarms: list[list[int]] = []
    for signal in range(training.shape[1]):
        reference = pd.Series(training[:, signal])
        found = [
            number
            for number, chunk in enumerate(chunks)
            if len(chunk) and _drifts(reference, pd.Series(chunk[:, signal]))
        ]
        alarms.append(found)
    return alarms


def _drifts(reference: Series, current: Series) -> bool:
    test = get_stattest(reference, current, ColumnType.Numerical, None)
    return bool(test(reference, current, ColumnType.Numerical, None).drifted)


def check_evidently(training: Values, chunk: Values) -> None:
    """Raise AssertionError unless the report's value is that of the test."""
    reference, current = (pd.DataFrame({"x": each[:, 0]}) for each in (training, chunk))
    result = Report([ValueDrift(column="x")]).run(current, reference).dict()
    test = get_stattest(reference["x"], current["x"], ColumnType.Numerical, None)
    value = test(reference["x"], current["x"], ColumnType.Numerical, None).drift_score
    assert np.isclose(float(result["metrics"][0]["value"]), value)  # noqa: S101 the check itself


def _frame(minute: Numbers, values: Values) -> Frame:
    frame = pd.DataFrame(values, columns=[f"s{i}" for i in range(values.shape[1])])
    frame["time"] = START + pd.to_timedelta(minute, unit="min")
    return frame


def univariate(reference: Frame, live: Frame, period: str) -> list[list[int]]:
    """Return by signal the chunks that NannyML's univariate calculator alarms on."""
    names = [name for name in live.columns if name != "time"]
    calculator = nannyml.UnivariateDriftCalculator(
        column_names=names, timestamp_column_name="time", chunk_period=period
    )
    result = calculator.fit(reference).calculate(live).filter(period="analysis").to_df()
    numbers = _numbers(result[("chunk", "chunk", "start_date")], period)
    (method,) = calculator.continuous_method_names
    return [numbers[result[(name, method, "alert")].to_numpy(bool)].tolist() for name in names]


def multivariate(reference: Frame, live: Frame, period: str) -> list[int]:
    """Return the chunks that NannyML's reconstruction error calculator alarms on."""
    names = [name for name in live.columns if name != "time"]
    calculator = nannyml.DataReconstructionDriftCalculator(
        column_names=names, timestamp_column_name="time", chunk_period=period
    )
    result = calculator.fit(reference).calculate(live).filter(period="analysis").to_df()
    alarms = result[("reconstruction_error", "alert")].to_numpy(bool)
    begins = result[("chunk", "start_date")]
    found: list[int] = _numbers(begins, period)[alarms].tolist()
    return found


def _numbers(begins: Times, period: str) -> Numbers:
    """Return the number of each chunk, counted in periods from the start."""
    seconds = (pd.DatetimeIndex(begins) - START).total_seconds().to_numpy()
    return (seconds // (60 * PERIODS[period])).astype(np.int64)


def run(file: str) -> dict[str, Any]:
    """Return the alarms of both packages, by the hour and by the day, in one file of rows."""
    with np.load(file) as content:
        training, values, minute = content["training"], content["values"], content["minute"]
        reference = _frame(content["reference_minute"], content["reference"])
        joint = bool(content["joint"])
    live = _frame(minute, values)
    alarms: dict[str, Any] = {}
    for period, minutes in PERIODS.items():
        chunks = np.split(values, np.searchsorted(minute, range(minutes, minute[-1] + 1, minutes)))
        alarms[f"evidently {period}"] = evidently(training, chunks)
        alarms[f"nannyml {period}"] = univariate(reference, live, period)
        if joint:
            # One answer for all signals.
            alarms[f"nannyml multivariate {period}"] = [multivariate(reference, live, period)]
        check_evidently(training, chunks[0])
    return alarms


def main() -> None:
    """Answer line by line."""
    answers, sys.stdout = sys.stdout, sys.stderr
    names = {name: version(name) for name in ("evidently", "nannyml")}
    print(json.dumps(names), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(line.strip())), file=answers, flush=True)


if __name__ == "__main__":
    main()
