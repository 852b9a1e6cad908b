"""The content of `bundle.json`: inputs, reference distributions and validation errors."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

FORMAT = 1
MANIFEST_FILE = "bundle.json"
ESTIMATOR_FILE = "model.joblib"
# The compiled form, if the estimator has one.
TREES_FILE = "trees.npy"
TRAINED_AT_FILE = "trained_at.txt"
# A sample of the training rows: features, target, and the cross-validated `prediction`.
REFERENCE_FILE = "reference.csv"
REFERENCE_ROWS = 10_000
# Rows for the simulated traffic (features and target): a sample of the rows held out from training,
# and optionally one of another population, which demonstrates drift.
HELD_OUT_FILE = "held_out.csv"
DRIFTED_FILE = "drifted.csv"
TRAFFIC_ROWS = 5_000
# The model's output is monitored like a feature, under this name.
PREDICTION = "prediction"

# The characters excluded here are those that msgspec rejects in the key of a struct.
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=r'^[^"\\\x00-\x1f]*$')
]
PlainFileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


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
    """One input of the model. `example` is shown in the service's documentation."""

    type: Literal["number", "integer"] = "number"
    nullable: bool = False
    example: float | None = None


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
    """The distribution of one signal (a feature, or the prediction) in the training rows.

    `edges` are the inner edges of the numeric bins: bin i holds edges[i-1] ≤ value < edges[i].
    If the feature is nullable, a bin `missing` follows the numeric ones. `kurtosis` is the mean of
    z⁴, 3 for a normal distribution; older bundles do not have it.
    """

    name: Name
    edges: tuple[float, ...]
    bins: tuple[Bin, ...]
    mean: float
    sigma: Annotated[float, Field(gt=0)]
    kurtosis: float | None = None
    minimum: float
    maximum: float


class Validation(_Strict):
    """The errors measured in training, in units of the target.

    `cv_*` are from cross-validation on the training rows, the others from held-out rows.
    """

    mae: float
    rmse: float
    rows: int
    cv_mae: float
    cv_rmse: float
    cv_folds: int


class Manifest(_Strict):
    """The content of `bundle.json`; `reference` has the features in order, then the prediction."""

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
