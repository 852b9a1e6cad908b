"""Put the parts of a bundle together, and write it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.arrays import Floats
from bundle.blocks import in_blocks
from bundle.calibrate import calibrate
from bundle.checks import check_not_constant, headline
from bundle.compile import compile_estimator
from bundle.describe import feature_references, most_important, with_example
from bundle.encode import Encoder
from bundle.errors import UnmonitorableError
from bundle.estimator import predictor, wrap
from bundle.figures import confidence, predicted, score
from bundle.frames import cells, column_codes, eaten, matrix
from bundle.importance import importances, sample
from bundle.libraries import algorithm, libraries
from bundle.manifest import (
    ESTIMATOR_FILE,
    PREDICTION,
    SCORE,
    SKOPS_FILE,
    Calibration,
    Feature,
    Manifest,
    Pair,
    Reference,
    Segment,
    Validation,
)
from bundle.pairs import choose_pairs
from bundle.prepare import Data, Measured
from bundle.program import Program
from bundle.reference import describe, describe_codes
from bundle.samples import reference_rows
from bundle.segments import measure_segment
from bundle.skops import Saved
from bundle.trees import TreeTables
from bundle.write import digests, dump, write

# Rows that are predicted once more as a client would send them.
_SENT_ROWS = 50

Step = Callable[[str], None]
Compiled = tuple[str, TreeTables | Program]


class Assembly:
    """Puts the parts of a bundle together. The references of outputs are those of the promise."""

    def __init__(
        self,
        data: Data,
        fitted: Any,  # noqa: ANN401
        promise: Measured,
        validation: Validation,
        step: Step,
    ) -> None:
        self._data, self._recipe, self._fitted = data, data.recipe, fitted
        self._validation, self._step = validation, step
        self._measured = promise
        outputs, target = promise.outputs, data.target
        # A score that never differs cannot drift, and tells nothing beside the class.
        if target.probabilities and np.ptp(score(outputs)) == 0:
            outputs, target = predicted(outputs), target.without_probabilities()
        self._outputs, self._target = outputs, target

    def write(self, output: Path, traffic: dict[str, bytes]) -> Manifest:
        """Write the bundle. Raises UnmonitorableError."""
        recipe, target = self._recipe, self._target
        chosen = headline(recipe, target.task, [*self._validation.statistics()])
        self._step("compiling")
        compiled = self._compiled()
        features = self._features(compiled)
        references = (*feature_references(features, self._data.codes), *self._output_references())
        labels = target.labels(predicted(self._outputs))
        probabilities = target.probabilities_by_name(self._outputs)
        name, content = _estimator_file(self._fitted, recipe.saved)
        files = {
            name: content,
            **reference_rows(self._measured.frame, recipe, labels, probabilities),
            **traffic,
            **({compiled[0]: compiled[1].to_bytes()} if compiled else {}),
        }
        hashes = digests(files)
        manifest = Manifest(
            format=2,
            name=recipe.name,
            version=hashes[name][:12],
            task=target.task,
            algorithm=algorithm(self._fitted),
            target=recipe.target,
            classes=target.classes,
            probabilities=target.probabilities,
            input=self._data.input,
            headline=chosen,
            features=features,
            rows=len(self._data.train),
            reference=references,
            pairs=self._pairs(features, references),
            segments=tuple(self._segments(features, references)),
            validation=self._validation,
            calibration=self._calibration(),
            libraries=libraries(self._fitted, self._data.input, recipe.saved),
            trusted=recipe.saved.trusted if recipe.saved else (),
            files=hashes,
        )
        self._check_rows_as_sent(manifest)
        write(output, manifest, files)
        return manifest

    def _predict(self, given: Any) -> Floats:  # noqa: ANN401
        target = self._target
        predict = predictor(self._fitted, target.classes, probabilities=target.probabilities)
        return in_blocks(predict, given)

    def _features(self, compiled: Compiled | None) -> tuple[Feature, ...]:
        """Return the features with an example, their importance, and at most 200 monitored."""
        self._step("measuring how much each feature matters")
        found = self._importances(compiled)
        monitored = most_important(self._recipe.features, found)
        columns = zip(self._recipe.features, self._data.codes.T, found, strict=True)
        return tuple(
            with_example(feature, values).model_copy(
                update={"importance": importance, "monitored": feature.name in monitored}
            )
            for feature, values, importance in columns
        )

    def _importances(self, compiled: Compiled | None) -> list[float]:
        """Return each feature's importance on held-out rows, or else on training rows."""
        recipe, data = self._recipe, self._data
        frame = data.train if data.held_out is None else data.held_out
        rows = sample(len(frame), len(recipe.features), recipe.seed)
        chosen = frame.iloc[rows]
        actual = self._target.encode(chosen)
        classes = len(self._target.classes)
        if compiled:
            codes = matrix(chosen, recipe.features)
            return importances(compiled[1].predict, codes, actual, classes, recipe.seed)
        given = eaten(chosen, recipe.features, data.input)
        return importances(self._predict, given, actual, classes, recipe.seed)

    def _pairs(
        self, features: Sequence[Feature], references: Sequence[Reference]
    ) -> tuple[Pair, ...]:
        """Return the pairs of monitored numbers whose correlation is watched."""
        reference = {each.name: each for each in references}
        columns = [
            at
            for at, feature in enumerate(features)
            if feature.monitored and feature.type in {"number", "integer"}
        ]
        return choose_pairs(
            [reference[features[at].name] for at in columns],
            self._data.codes[:, columns],
            {feature.name: feature.importance or 0.0 for feature in features},
        )

    def _segments(
        self, features: Sequence[Feature], references: Sequence[Reference]
    ) -> Iterator[Segment]:
        """Yield the promise of each segment, from the rows that the whole promise is from."""
        reference = {each.name: each for each in references}
        answers, actual = predicted(self._outputs), self._measured.actual
        is_regression = self._target.task == "regression"
        errors = np.abs(answers - actual) if is_regression else (answers != actual).astype(float)
        for feature in features:
            if feature.segment:
                codes = column_codes(self._measured.frame, feature)
                yield measure_segment(
                    feature, reference[feature.name], codes, errors, self._target.task
                )

    def _output_references(self) -> Iterator[Reference]:
        outputs, target = self._outputs, self._target
        if target.task == "regression":
            check_not_constant(PREDICTION, outputs)
            errors = np.abs(outputs - self._measured.actual)
            yield describe(PREDICTION, outputs, absolute_errors=errors)
            return
        yield describe_codes(PREDICTION, predicted(outputs), target.classes, is_feature=False)
        if target.probabilities:
            yield describe(SCORE, score(outputs))

    def _calibration(self) -> Calibration | None:
        if not self._target.probabilities:
            return None
        is_right = predicted(self._outputs) == self._measured.actual
        return calibrate(confidence(self._outputs), is_right)

    def _compiled(self) -> Compiled | None:
        data = self._data
        return compile_estimator(
            self._fitted,
            self._recipe.features,
            data.input,
            data.train,
            codes=data.codes,
            expected=self._predict(data.given),
        )

    def _check_rows_as_sent(self, manifest: Manifest) -> None:
        """Raise UnmonitorableError if rows of JSON have other outputs than those of the frame."""
        frame = self._data.train.head(_SENT_ROWS)
        rows = cells(frame, manifest.features)
        try:
            sent = wrap(self._fitted, manifest).predict(
                rows, Encoder(manifest.features).codes(rows)
            )
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UnmonitorableError(
                f"the estimator does not accept rows as a client sends them: {reason}"
            ) from error
        expected = self._predict(eaten(frame, self._recipe.features, self._data.input))
        if not np.allclose(sent, expected, rtol=1e-9, atol=0, equal_nan=True):
            raise UnmonitorableError(
                "the estimator predicts other values for rows as a client sends them: does it use"
                " more of the data frame than the values of its columns?"
            )


def _estimator_file(fitted: Any, saved: Saved | None) -> tuple[str, bytes]:  # noqa: ANN401
    return (SKOPS_FILE, saved.content) if saved else (ESTIMATOR_FILE, dump(fitted))
