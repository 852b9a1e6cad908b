"""Send a prediction log to another version of the model, and print what it answers differently.

The log is a spool that was kept (see services/model/serving/spool.py): segments, or directories of
them. Where the log holds labels as well, the errors of both versions are compared.

    ./task replay -- var/spool --bundle var/candidate
    ./task replay -- var/spool --url http://127.0.0.1:8000

With --bundle the model is loaded here, and no metric of a running service moves.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bundle.arrays import Floats
from bundle.load import BundleError, load_bundle

BATCH = 1_000
TIMEOUT = 60.0

Row = tuple[float | None, ...]
Predict = Callable[[list[str], list[Row]], Floats]
"""From names of features and rows, None where missing, to predictions; raises RowsRefusedError."""


class ReplayError(Exception):
    """There is nothing to compare; the message is one line."""


class RowsRefusedError(Exception):
    """At least one of the rows has no prediction."""


@dataclass(frozen=True)
class Log:
    """Predictions in order, and labels by id."""

    names: list[str]
    ids: list[str]
    versions: list[str]
    rows: list[Row]
    predictions: Floats
    labels: dict[str, float]


def read_log(paths: Iterable[Path]) -> Log:
    """Return what the segments hold, torn lines left out. Raises ReplayError."""
    names: list[str] = []
    ids: dict[str, tuple[str, Row, float]] = {}
    labels: dict[str, float] = {}
    for path in _segments(paths):
        header, events = _read(path)
        found = [column["name"] for column in header["features"]]
        if names and found != names:
            raise ReplayError(f"{path} has other features than the segments before it")
        names = found
        for event in events:
            if "label_of" in event:
                labels[event["label_of"]] = event["actual"]
            else:
                said = (header["version"], tuple(event["features"]), event["prediction"])
                ids[event["prediction_id"]] = said
    if not ids:
        raise ReplayError("the log holds no prediction")
    versions, rows, predictions = zip(*ids.values(), strict=True)
    return Log(names, list(ids), list(versions), list(rows), np.array(predictions), labels)


def replay(log: Log, predict: Predict) -> Floats:
    """Return the other version's predictions (n,), NaN where it refuses a row."""
    batches = [log.rows[start : start + BATCH] for start in range(0, len(log.rows), BATCH)]
    return np.concatenate([_predict(log.names, batch, predict) for batch in batches])


def _predict(names: list[str], rows: list[Row], predict: Predict) -> Floats:
    """Return predictions (n,): a row that is refused must not take its neighbours along."""
    try:
        return predict(names, rows)
    except RowsRefusedError:
        if len(rows) == 1:
            return np.array([np.nan])
        middle = len(rows) // 2
        halves = (rows[:middle], rows[middle:])
        return np.concatenate([_predict(names, half, predict) for half in halves])


def report(log: Log, new: Floats, worst: int) -> Iterator[str]:
    """Yield the comparison, line by line."""
    difference = new - log.predictions
    answered = np.isfinite(difference)
    size = np.abs(difference[answered])
    yield f"{len(new)} predictions of version {', '.join(sorted(set(log.versions)))}"
    if refused := int((~answered).sum()):
        yield f"{refused} rows are refused now"
    if not size.size:
        return
    yield f"{(size > 0).mean():.1%} are different"
    yield f"difference: mean {difference[answered].mean():+.4g}, mean size {size.mean():.4g}"
    median, tail = np.quantile(size, (0.5, 0.99))
    yield f"size: median {median:.4g}, 99 % below {tail:.4g}, largest {size.max():.4g}"
    yield from _errors(log, new)
    for index in np.argsort(-np.where(answered, np.abs(difference), -1))[:worst]:
        row = dict(zip(log.names, log.rows[index], strict=True))
        yield f"{log.predictions[index]:.4g} → {new[index]:.4g} {json.dumps(row)}"


def _errors(log: Log, new: Floats) -> Iterator[str]:
    """Yield the errors of both versions, on rows with a label that both have answered."""
    actual = np.array([log.labels.get(each, np.nan) for each in log.ids])
    known = np.isfinite(actual) & np.isfinite(new)
    if not known.any():
        return
    yield f"{known.sum()} of them have a label"
    for name, values in (("logged", log.predictions), ("now", new)):
        errors = values[known] - actual[known]
        mae, rmse = np.abs(errors).mean(), np.sqrt((errors**2).mean())
        yield f"{name}: MAE {mae:.4g}, RMSE {rmse:.4g}, bias {errors.mean():+.4g}"


def with_bundle(directory: Path) -> Predict:
    """Return the model of a bundle. Raises BundleError."""
    bundle = load_bundle(directory)
    wanted = [feature.name for feature in bundle.manifest.features]

    def predict(names: list[str], rows: list[Row]) -> Floats:
        if missing := set(wanted) - set(names):
            raise ReplayError(f"the log lacks {', '.join(sorted(missing))}")
        order = [names.index(name) for name in wanted]
        values = np.array(rows, dtype=np.float64)[:, order]
        try:
            return np.asarray(bundle.estimator.predict(values), dtype=np.float64)
        except ValueError as error:
            raise RowsRefusedError from error

    return predict


def with_service(client: httpx.Client) -> Predict:
    """Return the model of a running service, whose address the client has."""

    def predict(names: list[str], rows: list[Row]) -> Floats:
        instances = [dict(zip(names, row, strict=True)) for row in rows]
        try:
            answer = client.post("/predict/batch", json={"instances": instances})
            if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
                raise RowsRefusedError
            predictions = answer.raise_for_status().json()["predictions"]
        except httpx.HTTPError as error:
            raise ReplayError(f"{client.base_url}: {error}") from error
        return np.array([_value(each) for each in predictions])

    return predict


def _value(prediction: dict[str, Any]) -> float:
    """Return a prediction; its key is the target's name."""
    target = prediction.keys() - {"prediction_id", "model_version"}
    return float(prediction[target.pop()])


def _segments(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.glob("*.jsonl"), key=lambda each: each.name)
        elif path.is_file():
            yield path
        else:
            raise ReplayError(f"there is no {path}")


def _read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1].splitlines()
    try:
        header, *events = map(json.loads, whole)
        if header["spool"] != 1:
            raise ReplayError(f"{path} has format {header['spool']}")
    except (ValueError, LookupError, TypeError) as error:
        raise ReplayError(f"{path} is no segment of a spool: {error}") from error
    return header, events


def _model(given: argparse.Namespace) -> Predict:
    if given.bundle:
        return with_bundle(given.bundle)
    return with_service(httpx.Client(base_url=given.url, timeout=TIMEOUT))


def main(words: list[str] | None = None) -> None:
    """Replay a log, and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("log", type=Path, nargs="+", help="segments, or directories of them")
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--bundle", type=Path, help="directory of the other version's bundle")
    other.add_argument("--url", help="address of a service that runs the other version")
    parser.add_argument("--worst", type=int, default=3, help="largest differences shown (3)")
    given = parser.parse_args(words)
    try:
        log = read_log(given.log)
        for line in report(log, replay(log, _model(given)), given.worst):
            print(line)
    except (ReplayError, BundleError) as error:
        sys.exit(f"replay: {error}")


if __name__ == "__main__":
    main()
