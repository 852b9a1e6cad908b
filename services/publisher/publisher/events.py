"""The events of a spool, decoded and checked: pure functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from publisher.header import Category, Header, to_text

Kind = Literal["prediction", "label"]
KINDS: tuple[Kind, ...] = ("prediction", "label")

# The year 10000, which no timestamp can express.
_END_OF_TIME = 253_402_300_800.0

Value = float | bool | str | None
"""A feature's value in a spool: numbers are floats, even those of integer features."""
Time = Annotated[float, Field(ge=0, lt=_END_OF_TIME)]


@dataclass(frozen=True)
class ModelName:
    """Identifies a model; each version has its own schema and events."""

    name: str
    version: str


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Prediction(_Event):
    """A prediction at `time` (s since 1970); `features` are in the header's order.

    A classification's prediction is a class; `probabilities` are in the order of the classes.
    """

    prediction_id: Annotated[str, Field(min_length=1)]
    time: Time
    features: tuple[Value, ...]
    prediction: Category
    probabilities: tuple[float, ...] | None = None

    @property
    def key(self) -> str:
        """The id of the event."""
        return self.prediction_id


class Label(_Event):
    """The true value of a prediction, received at `time` (s since 1970)."""

    label_of: Annotated[str, Field(min_length=1)]
    time: Time
    version: str
    actual: Category

    @property
    def key(self) -> str:
        """The id of the event that the label belongs to."""
        return self.label_of


Event = Prediction | Label
T = TypeVar("T", Prediction, Label)


def model_name(header: Header) -> ModelName:
    """Return the model version whose predictions a segment holds."""
    return ModelName(header.model, header.version)


def decoder(header: Header, kind: Kind) -> Callable[[bytes], Event]:
    """Return a decoder from a line to an event of a kind.

    The decoder raises ValueError, whose message holds no value of the line.
    """
    columns = len(header.features)
    check = _outcome_check(header)
    probabilities = len(header.target.classes) if header.prediction.probabilities else 0

    def prediction(line: bytes) -> Event:
        event = _decode(Prediction, line)
        if len(event.features) != columns:
            raise ValueError(f"{len(event.features)} features instead of {columns}")
        check("prediction", event.prediction)
        if probabilities and len(event.probabilities or ()) != probabilities:
            raise ValueError(f"probabilities: not one for each of {probabilities} classes")
        return event

    def label(line: bytes) -> Event:
        event = _decode(Label, line)
        check("actual", event.actual)
        return event

    return prediction if kind == "prediction" else label


def _outcome_check(header: Header) -> Callable[[str, Category], None]:
    """Return a check of a prediction or a true value, which raises ValueError."""
    classes = frozenset(map(to_text, header.target.classes))

    def number(field: str, value: Category) -> None:
        if isinstance(value, bool | str):
            raise ValueError(f"{field}: not a number")  # noqa: TRY004 a bad line, not a bug

    def one_of_classes(field: str, value: Category) -> None:
        if to_text(value) not in classes:
            raise ValueError(f"{field}: not one of the classes")

    return one_of_classes if classes else number


def _decode(type_: type[T], line: bytes) -> T:
    try:
        return type_.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "line"
        raise ValueError(f"{where}: {first['type']}") from None
