"""What `bundle.json` says: the inputs, their reference distributions, the promised error."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

FORMAT = 1
MANIFEST_FILE = "bundle.json"
ESTIMATOR_FILE = "model.joblib"
# The compiled form, where the estimator has one.
TREES_FILE = "trees.npy"
TRAINED_AT_FILE = "trained_at.txt"
# Training rows, at most so many: features, target, and the cross-validated `prediction`.
REFERENCE_FILE = "reference.csv"
REFERENCE_ROWS = 10_000
# Rows for the simulated traffic, at most so many each: features and target. Those held out from
# training, and those of another population, where the example has one to show drift with.
HELD_OUT_FILE = "held_out.csv"
DRIFTED_FILE = "drifted.csv"
TRAFFIC_ROWS = 5_000
# The model's output is monitored like a feature, under this name.
PREDICTION = "prediction"

# What a name must not hold, no key of a msgspec struct can hold.
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=r'^[^"\\\x00-\x1f]*$')
]
PlainFileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantity(_Strict):
    """A number with a meaning: a feature or the target.

    `minimum` and `maximum` (both inclusive, either absent) are what the service accepts, in `unit`.
    """

    name: Name
    description: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None


class Feature(Quantity):
    """One input of the model. `example` is shown in the service's documentation."""

    type: Literal["number", "integer"] = "number"
    nullable: bool = False
    example: float | None = None


class Bin(_Strict):
    """One bin of a reference distribution.

    `ratio` is smoothed, (count + ½) / (rows + ½·bins), so that no PSI is infinite.
    `absolute_error` is the mean of |prediction − actual| in this bin of predictions.
    """

    bin: str
    range: str
    count: int
    ratio: float
    absolute_error: float | None = None


class Reference(_Strict):
    """How one signal (a feature, or the prediction) was distributed in training.

    `edges` are the inner edges of the numeric bins: bin i holds edges[i-1] ≤ value < edges[i].
    A bin `missing` follows the numeric ones where the feature is nullable.
    """

    name: Name
    edges: tuple[float, ...]
    bins: tuple[Bin, ...]
    mean: float
    sigma: Annotated[float, Field(gt=0)]
    minimum: float
    maximum: float


class Validation(_Strict):
    """The error promised in training, in units of the target.

    `cv_*` come from cross-validation on the training rows, the others from held-out rows.
    """

    mae: float
    rmse: float
    rows: int
    cv_mae: float
    cv_rmse: float
    cv_folds: int


class Manifest(_Strict):
    """All of `bundle.json`; `reference` has the features in order, and then the prediction."""

    format: Literal[1]
    name: Name
    version: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,40}$")]
    task: Literal["regression"]
    algorithm: str
    target: Quantity
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    rows: int
    reference: tuple[Reference, ...]
    validation: Validation
    libraries: dict[str, str]
    files: dict[PlainFileName, Sha256]

    @model_validator(mode="after")
    def _each_signal_has_its_reference(self) -> Self:
        if [each.name for each in self.reference] != [*(f.name for f in self.features), PREDICTION]:
            raise ValueError("the references are not those of the features and the prediction")
        return self
