"""The content of `bundle.json`: inputs, reference distributions and validation errors.

Format 1 is read as a regression on a matrix: what format 2 adds has a default.
"""

from math import isnan, nan
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
    model_validator,
)

FORMAT = 2
FORMATS = (1, 2)
MANIFEST_FILE = "bundle.json"
# The estimator, as a pickle or in skops' format.
ESTIMATOR_FILE = "model.joblib"
SKOPS_FILE = "model.skops"
# The compiled form, if the estimator has one: boosted trees alone, or with what surrounds them.
TREES_FILE = "trees.npy"
PROGRAM_FILE = "program.npy"
TRAINED_AT_FILE = "trained_at.txt"
# A sample of the training rows: features, target, the cross-validated `prediction`, and of a
# classification `probability_<class>` for each of at most 50 classes.
REFERENCE_FILE = "reference.csv"
REFERENCE_ROWS = 10_000
# Rows for the simulated traffic (features and target): a sample of the rows held out from training,
# and optionally one of another population, which demonstrates drift.
HELD_OUT_FILE = "held_out.csv"
DRIFTED_FILE = "drifted.csv"
TRAFFIC_ROWS = 5_000
# The model's outputs are monitored like features, under these names.
PREDICTION = "prediction"
SCORE = "score"
# Bins that are not ranges of values.
MISSING = "missing"
UNSEEN = "unseen"
# A reference over categories has at most this many bins of them; the last one holds the rarer ones.
MAX_CATEGORY_BINS = 20
# Every monitored feature costs series; beyond this number only the most important are monitored.
MAX_MONITORED = 200
MAX_FEATURES = 500
# An id carries a byte for each segment, and there are up to 22 values of one.
MAX_SEGMENTS = 5

# The characters excluded here are those that msgspec rejects in the key of a struct.
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=r'^[^"\\\x00-\x1f]*$')
]
PlainFileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# A category or a class, of the type that it has in JSON.
Value = StrictBool | StrictInt | StrictFloat | StrictStr
# A number that not every model or signal has: NaN, and absent from the file.
Figure = Annotated[float, Field(exclude_if=isnan)]

Task = Literal["regression", "classification"]
FeatureType = Literal["number", "integer", "boolean", "category", "datetime"]
# The statistic that the accuracy alerts compare with its value in training.
Headline = Literal[
    "mae", "rmse", "accuracy", "macro_f1", "balanced_accuracy", "log_loss", "brier", "auc"
]
REGRESSION_HEADLINES = ("mae", "rmse")


def _is_empty(values: tuple[object, ...]) -> bool:
    return not values


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantity(_Strict):
    """A feature or the target, with its unit and range.

    The service accepts values from `minimum` to `maximum`, both inclusive and optional, in `unit`.
    """

    name: Name
    description: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None


class Feature(Quantity):
    """One input of the model. `example` is shown in the service's documentation.

    `categories` are the values that training saw of a category: by descending count, then by value.
    An `unseen` one is passed to the estimator as it is, or rejected. A datetime is ISO 8601 text in
    JSON (UTC where it names no time zone), and seconds since 1970 in UTC everywhere else, also in
    `minimum` and `maximum`. `importance` is the rise of the error when the feature is permuted.
    `name` is public; `column` is what the estimator calls it, if that is something else.
    """

    column: Name | None = None

    type: FeatureType = "number"
    nullable: bool = False
    example: Value | None = None
    categories: tuple[Value, ...] = ()
    unseen: Literal["pass", "reject"] = "pass"
    importance: float | None = None
    monitored: bool = True
    segment: bool = False

    @property
    def source(self) -> str:
        """Return the name of the column that the estimator eats."""
        return self.column or self.name

    @model_validator(mode="after")
    def _only_categories_have_categories(self) -> Self:
        if (self.type == "category") != bool(self.categories):
            raise ValueError("a category has categories, and no other type has")
        if len(set(self.categories)) < len(self.categories):
            raise ValueError("a category is listed twice")
        return self


class Bin(_Strict):
    """One bin of a reference distribution.

    `ratio` is smoothed, (count + ½) / (rows + ½·bins), so that no population stability index (PSI)
    is infinite.
    `absolute_error` is the mean of |prediction − actual| in this bin of predictions.
    """

    bin: str
    range: str
    count: int
    ratio: float
    absolute_error: float | None = None


class Reference(_Strict):
    """The distribution of one signal (a feature, or an output) in the training rows.

    `edges` are the inner edges of the bins: bin i holds edges[i-1] ≤ value < edges[i]. If the
    feature is nullable, a bin `missing` follows.

    Categories and classes are binned by their codes, the indices in `categories` or `classes`: the
    edges are 1, 2, … If there are more than 20, the 20th bin holds all from the 20th on. For a
    feature, the last edge is the number of categories, which is the code of every unseen value, so
    that the bin above it is `unseen`. Codes have no moments and no range: these are NaN.

    `kurtosis` is the mean of z⁴, 3 for a normal distribution; older bundles do not have it.
    """

    name: Name
    edges: tuple[float, ...]
    bins: tuple[Bin, ...]
    mean: Figure = nan
    sigma: Annotated[float, Field(gt=0, exclude_if=isnan)] = nan
    kurtosis: float | None = None
    minimum: Figure = nan
    maximum: Figure = nan

    @property
    def is_categorical(self) -> bool:
        """Return whether the bins hold codes, which have no mean."""
        return isnan(self.mean)

    @property
    def rows(self) -> int:
        """Return the number of rows behind the ratios."""
        return sum(each.count for each in self.bins)


class Pair(_Strict):
    """Two features whose correlation in the training rows is compared with that of live rows.

    `correlation` is the mean of zᵢzⱼ over the `rows` that have both values. `variance` over a
    number of rows is that of its estimate: (1 - r²)² for normal values, more for heavy tails.
    """

    features: tuple[Name, Name]
    correlation: float
    variance: float
    rows: int

    @property
    def name(self) -> str:
        """Return the value of the label `pair`."""
        return " and ".join(self.features)


class SegmentBin(_Strict):
    """The rows of one value of a segment, of those that the promise is from.

    `bin` is that of the feature's reference, `value` its name. `error` is the mean of
    |prediction − actual|, or of a classification the share of wrong answers; `deviation` is the
    standard deviation of a single row's. Without rows, both are absent.
    """

    bin: str
    value: str
    rows: int
    error: Figure = nan
    deviation: Figure = nan


class Segment(_Strict):
    """A feature by whose values the error is broken down, each with a promise of its own."""

    feature: Name
    bins: tuple[SegmentBin, ...]


class Validation(_Strict):
    """The errors and other figures measured in training, in units of the target.

    `cv_*` are the promise: from cross-validation on the training rows. The others are from `rows`
    held-out rows. If the model was not cross-validated (`cv_folds` is 0), `cv_*` repeat the others;
    if there are no held-out rows, the others repeat `cv_*`. With neither, all are from the training
    rows (`in_sample`) and too good.

    `brier` is the mean of Σ over classes of (probability − outcome)², halved for two classes;
    `auc` exists for two classes. A figure that the task or the model lacks is NaN.
    """

    rows: int
    in_sample: bool = False
    cv_folds: int = 0
    mae: Figure = nan
    rmse: Figure = nan
    cv_mae: Figure = nan
    cv_rmse: Figure = nan
    accuracy: Figure = nan
    macro_f1: Figure = nan
    balanced_accuracy: Figure = nan
    log_loss: Figure = nan
    brier: Figure = nan
    auc: Figure = nan
    calibration_error: Figure = nan
    cv_accuracy: Figure = nan
    cv_macro_f1: Figure = nan
    cv_balanced_accuracy: Figure = nan
    cv_log_loss: Figure = nan
    cv_brier: Figure = nan
    cv_auc: Figure = nan
    cv_calibration_error: Figure = nan

    def statistics(self) -> dict[str, float]:
        """Return the figures that there are, by name."""
        return {
            name: value for name, value in self if isinstance(value, float) and not isnan(value)
        }


class Calibration(_Strict):
    """How often a classifier is right, by its confidence (the probability of its answer).

    `points` (confidence, probability of being right) are ascending: interpolate linearly between
    them; the first and the last hold beyond. Fitted to `rows` rows that the model was not fitted to
    (unless the validation is in-sample).
    """

    method: Literal["isotonic", "sigmoid"]
    points: Annotated[tuple[tuple[float, float], ...], Field(min_length=1)]
    rows: int


class Input(_Strict):
    """What the estimator eats: a matrix, or a pandas DataFrame with these columns, in order.

    A matrix is of float64 (a datetime in seconds since 1970), or of objects if it has categories.
    """

    kind: Literal["matrix", "frame"] = "matrix"
    dtypes: dict[str, str] = Field(default_factory=dict)


class Manifest(_Strict):
    """The content of `bundle.json`.

    `reference` has the monitored features in order, then the prediction, then, for a classification
    with probabilities, the score: the probability of the second class if there are two, else that
    of the predicted class. `classes` are in the estimator's order; a class's code is its index.
    """

    format: Literal[1, 2]
    name: Name
    version: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,40}$")]
    task: Task
    algorithm: str
    target: Quantity
    classes: tuple[Value, ...] = ()
    probabilities: bool = False
    input: Input = Field(default_factory=Input)
    headline: Headline = "mae"
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    rows: int
    reference: tuple[Reference, ...]
    # Older bundles have none.
    pairs: tuple[Pair, ...] = ()
    segments: Annotated[tuple[Segment, ...], Field(exclude_if=_is_empty)] = ()
    validation: Validation
    calibration: Calibration | None = None
    libraries: dict[str, str]
    # Types in a skops file that skops does not trust by itself.
    trusted: Annotated[tuple[str, ...], Field(exclude_if=lambda types: not types)] = ()
    files: dict[PlainFileName, Sha256]

    @property
    def monitored(self) -> tuple[Feature, ...]:
        """Return the features that have a reference, in order."""
        return tuple(feature for feature in self.features if feature.monitored)

    @model_validator(mode="after")
    def _each_signal_has_its_reference(self) -> Self:
        signals = [*(feature.name for feature in self.monitored), PREDICTION]
        if self.task == "classification" and self.probabilities:
            signals.append(SCORE)
        if [each.name for each in self.reference] != signals:
            raise ValueError("the references are not those of the features and the prediction")
        return self

    @model_validator(mode="after")
    def _pairs_are_distinct_features(self) -> Self:
        known = {feature.name for feature in self.features if feature.monitored}
        if not all(len(known.intersection(pair.features)) == 2 for pair in self.pairs):  # noqa: PLR2004
            raise ValueError("a pair is not two of the features")
        if len({pair.name for pair in self.pairs}) < len(self.pairs):
            raise ValueError("two pairs have the same name")
        return self

    @model_validator(mode="after")
    def _each_segment_has_the_bins_of_its_feature(self) -> Self:
        bins = {each.name: [bin_.bin for bin_ in each.bins] for each in self.reference}
        for segment in self.segments:
            if [each.bin for each in segment.bins] != bins.get(segment.feature):
                raise ValueError(f"the segment {segment.feature} has other bins than its feature")
        if len(self.segments) > MAX_SEGMENTS:
            raise ValueError(f"more than {MAX_SEGMENTS} segments")
        return self

    @model_validator(mode="after")
    def _the_task_is_consistent(self) -> Self:
        is_regression = self.task == "regression"
        if len(self.classes) == 1 or is_regression == bool(self.classes):
            raise ValueError("a classification has two classes or more, a regression has none")
        if is_regression != (self.headline in REGRESSION_HEADLINES):
            raise ValueError(f"{self.headline} is no statistic of a {self.task}")
        if is_regression and self.probabilities:
            raise ValueError("a regression has no probabilities")
        return self
