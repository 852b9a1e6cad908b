"""Replay a prediction log against another version of the model and print the differences.

The log is a kept spool (see services/model/serving/spool.py): segments, or directories of them. If
it contains labels, the errors of both versions are compared.

    ./task replay -- var/spool --bundle var/candidate
    ./task replay -- var/spool --url http://127.0.0.1:8000

With --bundle the model is loaded in this process, and no metric of a running service changes.
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
"""Maps feature names and rows (None is missing) to predictions; raises RowsRejectedError."""


class ReplayError(Exception):
    """The comparison is impossible; the message is one line."""


class RowsRejectedError(Exception):
    """The model rejects at least one of the rows."""


@dataclass(frozen=True)
class Log:
    """Predictions in the order of the log, and labels by prediction id."""

    names: list[str]
    ids: list[str]
    versions: list[str]
    rows: list[Row]
    predictions: Floats
    labels: dict[str, float]


def read_log(paths: Iterable[Path]) -> Log:
    """Return the events of segments, without incomplete lines. Raises ReplayError."""
    names: list[str] = []
    answers: dict[str, tuple[str, Row, float]] = {}
    labels: dict[str, float] = {}
    for path in _segments(paths):
        header, events = _read(path)
        found = [column["name"] for column in header["features"]]
        if names and found != names:
            raise ReplayError(f"{path} has other features than the previous segments")
        names = found
        for event in events:
            if "label_of" in event:
                labels[event["label_of"]] = event["actual"]
            else:
                answer = (header["version"], tuple(event["features"]), event["prediction"])
                answers[event["prediction_id"]] = answer
    if not answers:
        raise ReplayError("the log contains no prediction")
    versions, rows, predictions = zip(*answers.values(), strict=True)
    return Log(names, list(answers), list(versions), list(rows), np.array(predictions), labels)


def replay(log: Log, predict: Predict) -> Floats:
    """Return the other version's predictions (n,), NaN for each row that it rejects."""
    batches = [log.rows[start : start + BATCH] for start in range(0, len(log.rows), BATCH)]
    return np.concatenate([_predict(log.names, batch, predict) for batch in batches])


def _predict(names: list[str], rows: list[Row], predict: Predict) -> Floats:
    """Return predictions (n,); bisects the rows if the model rejects any of them."""
    try:
        return predict(names, rows)
    except RowsRejectedError:
        if len(rows) == 1:
            return np.array([np.nan])
        middle = len(rows) // 2
        halves = (rows[:middle], rows[middle:])
        return np.concatenate([_predict(names, half, predict) for half in halves])


def report(log: Log, new: Floats, worst: int) -> Iterator[str]:
    """Yield the lines of the comparison."""
    difference = new - log.predictions
    accepted = np.isfinite(difference)
    absolute = np.abs(difference[accepted])
    yield f"{len(new)} predictions of version {', '.join(sorted(set(log.versions)))}"
    if rejected := int((~accepted).sum()):
        yield f"rejected rows: {rejected}"
    if not absolute.size:
        return
    yield f"different predictions: {(absolute > 0).mean():.1%}"
    mean = difference[accepted].mean()
    yield f"difference: mean {mean:+.4g}, mean absolute {absolute.mean():.4g}"
    median, p99 = np.quantile(absolute, (0.5, 0.99))
    yield f"absolute: median {median:.4g}, p99 {p99:.4g}, maximum {absolute.max():.4g}"
    yield from _errors(log, new)
    for index in np.argsort(-np.where(accepted, np.abs(difference), -1))[:worst]:
        row = dict(zip(log.names, log.rows[index], strict=True))
        yield f"{log.predictions[index]:.4g} → {new[index]:.4g} {json.dumps(row)}"


def _errors(log: Log, new: Floats) -> Iterator[str]:
    """Yield the errors of both versions on the labelled rows that both accepted."""
    actual = np.array([log.labels.get(each, np.nan) for each in log.ids])
    known = np.isfinite(actual) & np.isfinite(new)
    if not known.any():
        return
    yield f"labelled rows: {known.sum()}"
    for name, values in (("logged", log.predictions), ("replayed", new)):
        errors = values[known] - actual[known]
        mae, rmse = np.abs(errors).mean(), np.sqrt((errors**2).mean())
        yield f"{name}: MAE {mae:.4g}, RMSE {rmse:.4g}, bias {errors.mean():+.4g}"


def with_bundle(directory: Path) -> Predict:
    """Return a function that predicts with a bundle. Raises BundleError."""
    bundle = load_bundle(directory)
    wanted = [feature.name for feature in bundle.manifest.features]

    def predict(names: list[str], rows: list[Row]) -> Floats:
        if missing := set(wanted) - set(names):
            raise ReplayError(f"features missing from the log: {', '.join(sorted(missing))}")
        order = [names.index(name) for name in wanted]
        values = np.array(rows, dtype=np.float64)[:, order]
        try:
            return np.asarray(bundle.estimator.predict(values), dtype=np.float64)
        except ValueError as error:
            raise RowsRejectedError from error

    return predict


def with_service(client: httpx.Client) -> Predict:
    """Return a function that predicts with the service at the client's base URL."""

    def predict(names: list[str], rows: list[Row]) -> Floats:
        instances = [dict(zip(names, row, strict=True)) for row in rows]
        try:
            answer = client.post("/predict/batch", json={"instances": instances})
            if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
                raise RowsRejectedError
            predictions = answer.raise_for_status().json()["predictions"]
        except httpx.HTTPError as error:
            raise ReplayError(f"{client.base_url}: {error}") from error
        return np.array([_value(each) for each in predictions])

    return predict


def _value(prediction: dict[str, Any]) -> float:
    """Return the value of a prediction, whose key is the target's name."""
    target = prediction.keys() - {"prediction_id", "model_version"}
    return float(prediction[target.pop()])


def _segments(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.glob("*.jsonl"), key=lambda each: each.name)
        elif path.is_file():
            yield path
        else:
            raise ReplayError(f"{path} does not exist")


def _read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    content = path.read_bytes()
    complete = content[: content.rfind(b"\n") + 1].splitlines()
    try:
        header, *events = map(json.loads, complete)
        if header["spool"] != 1:
            raise ReplayError(f"{path} has the unknown format {header['spool']}")
    except (ValueError, LookupError, TypeError) as error:
        raise ReplayError(f"{path} is not a segment of a spool: {error}") from error
    return header, events


def _model(arguments: argparse.Namespace) -> Predict:
    if arguments.bundle:
        return with_bundle(arguments.bundle)
    return with_service(httpx.Client(base_url=arguments.url, timeout=TIMEOUT))


def main(argv: list[str] | None = None) -> None:
    """Replay a log and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("log", type=Path, nargs="+", help="segments, or directories of them")
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--bundle", type=Path, help="bundle directory of the other version")
    other.add_argument("--url", help="URL of a service that runs the other version")
    parser.add_argument(
        "--worst", type=int, default=3, help="number of largest differences to print (default 3)"
    )
    arguments = parser.parse_args(argv)
    try:
        log = read_log(arguments.log)
        for line in report(log, replay(log, _model(arguments)), arguments.worst):
            print(line)
    except (ReplayError, BundleError) as error:
        sys.exit(f"replay: {error}")


if __name__ == "__main__":
    main()
