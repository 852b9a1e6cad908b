"""Build a bundle from your estimator and your data, without code.

    ./task model -- --estimator my.joblib --data train.csv --target price --held-out test.csv
    ./task model -- --train --estimator unfitted.joblib --data train.csv --target price
    ./task model -- --describe --estimator my.joblib --data train.csv --target price

docs/models.md explains it. Loading a pickle runs what its file says: load only what you trust.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from bundle.build import build_bundle, bundle_fitted
from bundle.checks import Recipe, UnmonitorableError
from bundle.infer import Column, infer
from bundle.manifest import PROGRAM_FILE, SKOPS_FILE, TREES_FILE, Feature, Manifest
from bundle.publish import publish
from bundle.pyfunc import PyFunc
from bundle.target import find_target
from bundle.write import check_output
from tools import ROOT
from tools.command import run
from tools.model.data import check_not_a_count, read_rows, require
from tools.model.description import (
    Description,
    check_columns,
    check_names,
    read_description,
    write_description,
)
from tools.model.errors import ModelError
from tools.model.estimator import feature_names, load_estimator
from tools.model.mlflow import Signature
from tools.model.table import feature_table

_DEFAULT_OUTPUT = ROOT / "var" / "bundle"
_DESCRIPTION = "features.yaml"
_ESTIMATOR = "file of joblib.dump or skops.io.dump, or the directory of an MLflow model"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the arguments, with paths relative to where `./task` was called."""
    parser = argparse.ArgumentParser(
        prog="./task model --",
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--estimator", type=_path, required=True, help=_ESTIMATOR)
    parser.add_argument("--data", type=_path, required=True, help="training rows: CSV or Parquet")
    parser.add_argument("--target", required=True, help="the column that is predicted")
    parser.add_argument("--held-out", type=_path, help="rows that the estimator was not fitted to")
    parser.add_argument("--features", type=_path, help="descriptions, ranges and types of columns")
    parser.add_argument("--output", type=_path, default=_DEFAULT_OUTPUT, help="bundle directory")
    parser.add_argument("--name", help="the model's name; otherwise that of the estimator's file")
    parser.add_argument("--train", action="store_true", help="cross-validate and fit the estimator")
    parser.add_argument(
        "--describe", action="store_true", help="only write a first features.yaml to edit"
    )
    parser.add_argument(
        "--accept-in-sample",
        action="store_true",
        help="without held-out rows: promise the errors on the training rows, which are too good",
    )
    parser.add_argument(
        "--trust", action="append", default=[], metavar="TYPE", help="accept a type in a skops file"
    )
    return parser.parse_args(argv)


def _path(text: str) -> Path:
    return Path(os.environ.get("USER_WORKING_DIR") or ".") / text


def main(argv: list[str] | None = None) -> int:
    """Build the bundle and print what it holds; return 1 if it cannot be built."""
    arguments = parse(argv)
    try:
        for line in build(arguments):
            print(line)
    except (ModelError, UnmonitorableError) as error:
        print(f"model: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def build(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield what there is to say, while building. Raises ModelError and UnmonitorableError."""
    loaded = load_estimator(
        arguments.estimator, is_to_be_fitted=arguments.train, trusted=tuple(arguments.trust)
    )
    estimator = loaded.estimator
    train = read_rows(arguments.data)
    held_out = None if arguments.held_out is None else read_rows(arguments.held_out)
    require(arguments.data, train, arguments.target, "the target")
    if held_out is not None:
        require(arguments.held_out, held_out, arguments.target, "the target")
    description = read_description(arguments.features)
    check_columns(arguments.features, description, train.columns)
    if loaded.signature.answers_classes and isinstance(estimator, PyFunc):
        estimator.answer_classes(train[arguments.target])
    names = feature_names(
        loaded,
        arguments.data,
        train,
        arguments.target,
        description.ignore,
        is_to_be_fitted=arguments.train,
    )
    check_names(arguments.features, description, names, arguments.target)
    if left_out := [each for each in train.columns if each not in (*names, arguments.target)]:
        yield f"left out: {', '.join(left_out)}"
    columns = [_column(name, description, loaded.signature) for name in names]
    features = [_feature(each, description, train, held_out, arguments) for each in columns]
    name = arguments.name or description.name or arguments.estimator.stem
    if arguments.describe:
        yield _describe(arguments, estimator, name, train, features)
        return
    recipe = replace(_recipe(name, description, arguments.target, features), saved=loaded.saved)
    kept = [*names, arguments.target]
    renamed = {feature.source: feature.name for feature in features}
    train = train[kept].rename(columns=renamed)
    held_out = None if held_out is None else held_out[kept].rename(columns=renamed)
    yield from _build(arguments, estimator, train, held_out, recipe)


def _column(name: str, description: Description, signature: Signature) -> Column:
    """Return what is said about a column: by a person, or else by MLflow's signature."""
    own = description.of(name)
    nullable = True if own.nullable is None and name in signature.nullable else own.nullable
    return Column(name, own.type or signature.types.get(name), nullable, own.unseen)


def _feature(
    column: Column,
    description: Description,
    train: pd.DataFrame,
    held_out: pd.DataFrame | None,
    arguments: argparse.Namespace,
) -> Feature:
    name, own = column.name, description.of(column.name)
    if held_out is not None:
        require(arguments.held_out, held_out, name, "the feature")
    if own.monitored and own.type is None:
        check_not_a_count(arguments.data, name, train[name])
    try:
        return description.apply(infer(column, train, held_out))
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise ModelError(f"{arguments.data}: column {name!r}: {reason}") from error
    except UnmonitorableError as error:
        raise ModelError(f"{arguments.data}: {error}") from error


def _recipe(name: str, description: Description, target: str, features: list[Feature]) -> Recipe:
    try:
        return Recipe(
            name=name,
            target=description.quantity(target),
            features=features,
            headline=description.headline,
        )
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise ModelError(f"the target {target!r}: {reason}: rename the column") from error


def _describe(
    arguments: argparse.Namespace,
    estimator: Any,  # noqa: ANN401
    name: str,
    train: pd.DataFrame,
    features: list[Feature],
) -> str:
    target = find_target(estimator, train, arguments.target, is_fitted=not arguments.train)
    path = arguments.features or _path(_DESCRIPTION)
    headline = "mae" if target.task == "regression" else "accuracy"
    write_description(path, name, arguments.target, headline, features)
    return f"wrote {path}: edit it, and give it with --features"


def _build(
    arguments: argparse.Namespace,
    estimator: Any,  # noqa: ANN401
    train: pd.DataFrame,
    held_out: pd.DataFrame | None,
    recipe: Recipe,
) -> Iterator[str]:
    output, progress = arguments.output, Progress()
    # The stack's own bundle is a link to one of its versions (see bundle.publish).
    is_published = output == _DEFAULT_OUTPUT or output.is_symlink()
    place = output.with_name(f"{output.name}.built") if is_published else output
    check_output(output)
    try:
        if arguments.train:
            manifest = build_bundle(estimator, train, held_out, recipe, place, step=progress)
        else:
            manifest = bundle_fitted(
                estimator,
                train,
                held_out,
                recipe,
                place,
                accept_in_sample=arguments.accept_in_sample,
                step=progress,
            )
    finally:
        progress.end()
    if is_published:
        publish(place, output)
    yield from feature_table(manifest, train)
    yield ""
    yield from summary(manifest, arguments.output)


def summary(manifest: Manifest, output: Path) -> Iterator[str]:
    """Yield what the bundle promises, and how to serve it."""
    how = "compiled" if {TREES_FILE, PROGRAM_FILE} & manifest.files.keys() else "not compiled"
    kind: str = manifest.task
    if manifest.classes:
        answer = "with probabilities" if manifest.probabilities else "without probabilities"
        kind = f"classification of {len(manifest.classes)} classes {answer}"
    yield f"{manifest.name} {manifest.version}: {kind}, {manifest.algorithm} ({how}),"
    yield f"{manifest.rows} training rows. Promised: {_promise(manifest)}"
    if SKOPS_FILE in manifest.files:
        types = ", ".join(manifest.trusted) or "none but skops' own"
        yield f"Loaded without unpickling; types that are trusted: {types}"
    if manifest.validation.in_sample:
        yield "These are the errors on the training rows: the real ones are larger."
    yield f"Wrote {output}. Serve it: {_command(output)}"


def _promise(manifest: Manifest) -> str:
    found = manifest.validation.statistics()
    promised = {
        name.removeprefix("cv_"): value for name, value in found.items() if name.startswith("cv_")
    }
    figures = ", ".join(f"{name} {value:.4g}" for name, value in promised.items())
    return f"{figures} (alerts watch {manifest.headline})"


def _command(output: Path) -> str:
    # The stack's own bundle is a link to one of its versions.
    if output in (_DEFAULT_OUTPUT, _DEFAULT_OUTPUT.resolve()):
        return "./task up"
    return f"MODEL_BUNDLE={shlex.quote(str(output))} ./task up"


class Progress:
    """Says on a terminal, or in a log, what is done and how long it took."""

    def __init__(self) -> None:
        self._started: float | None = None

    def __call__(self, step: str) -> None:
        """Begin a step."""
        self.end()
        self._started = time.monotonic()
        print(f"{step} …", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """End the running step."""
        if self._started is not None:
            print(f" {time.monotonic() - self._started:.1f} s", file=sys.stderr, flush=True)
        self._started = None


if __name__ == "__main__":
    run(main)
