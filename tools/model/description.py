"""`features.yaml`: what a person knows about the columns that the data do not tell."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bundle.manifest import Feature, FeatureType, Headline, Name, Quantity, Value
from tools.model.errors import ModelError, first_line


def _seconds(value: Any) -> Any:  # noqa: ANN401 what YAML holds
    """Return a date of YAML in seconds since 1970; without a time zone it is in UTC."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return value


Bound = Annotated[float | None, BeforeValidator(_seconds)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TargetDescription(_Strict):
    """What the target means, and the range that its labels are accepted in."""

    description: str = ""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None


class FeatureDescription(_Strict):
    """What a feature means; what is left out is inferred from the data.

    `column` is what the data and the estimator call it, if its public name is something else.
    """

    column: str | None = None
    description: str = ""
    unit: str | None = None
    type: FeatureType | None = None
    minimum: Bound = None
    maximum: Bound = None
    nullable: bool | None = None
    unseen: Literal["pass", "reject"] = "pass"
    example: Value | None = None
    monitored: bool = True


class Description(_Strict):
    """The content of `features.yaml`."""

    name: Name | None = None
    target: TargetDescription = Field(default_factory=TargetDescription)
    headline: Headline | None = None
    ignore: list[str] = Field(default_factory=list)
    segments: list[str] = Field(default_factory=list)
    features: dict[str, FeatureDescription] = Field(default_factory=dict)

    def quantity(self, name: str) -> Quantity:
        """Return the target."""
        return Quantity(name=name, **self.target.model_dump())

    @property
    def public_names(self) -> dict[str, str]:
        """Return the public name of each column that has one of its own."""
        return {
            each.column: name for name, each in self.features.items() if each.column is not None
        }

    def of(self, column: str) -> FeatureDescription:
        """Return what is said about the feature in a column."""
        name = self.public_names.get(column, column)
        return self.features.get(name) or FeatureDescription()

    def apply(self, feature: Feature) -> Feature:
        """Return the feature inferred from a column with what is said about it."""
        own = self.of(feature.name).model_dump(exclude={"type", "nullable", "column"})
        public = self.public_names.get(feature.name)
        own |= {"name": public, "column": feature.name} if public else {}
        own["segment"] = (public or feature.name) in self.segments
        return Feature.model_validate(
            feature.model_dump() | {name: value for name, value in own.items() if value is not None}
        )


def read_description(path: Path | None) -> Description:
    """Return the content of a file, or an empty description. Raises ModelError."""
    if path is None:
        return Description()
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        return Description.model_validate({} if content is None else content)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path} is not YAML: {reason}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ModelError(f"{path}: {where}: {first['msg']}") from error


def check_columns(path: Path | None, description: Description, columns: Iterable[str]) -> None:
    """Raise ModelError if the description names a column that the data do not have."""
    known = [*columns]
    features = [each.column or name for name, each in description.features.items()]
    for where, names in (("ignore", description.ignore), ("features", features)):
        for name in names:
            if name not in known:
                raise ModelError(
                    f"{path}: {where}: {name} is no column of the data{_hint(name, known)}"
                )
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ModelError(f"{path}: {where}: the column {twice} is named twice: remove one")


def check_names(
    path: Path | None, description: Description, columns: Sequence[str], target: str
) -> None:
    """Raise ModelError if features (of these columns) share a name, or a segment is none."""
    public = description.public_names
    names = [public.get(column, column) for column in columns]
    for column, name in public.items():
        if column in columns and (name == target or names.count(name) > 1):
            what = "the target" if name == target else "another feature"
            raise ModelError(
                f"{path}: features: {name} is the name of {what}: choose another one for the"
                f" column {column}"
            )
    for name in description.segments:
        if name not in names:
            raise ModelError(f"{path}: segments: {name} is no feature{_hint(name, names)}")


def _hint(name: str, known: Sequence[str]) -> str:
    alike = get_close_matches(name, known, n=1)
    return f": did you mean {alike[0]}?" if alike else ""


_HEAD = """\
# What the data do not tell about the columns. Everything is optional: delete what you do not need.
#   type: number | integer | boolean | category | datetime
#   minimum, maximum: the service rejects values outside, both inclusive
#   unseen: pass | reject, for categories that training has not seen
#   monitored: false serves a feature without watching it
#   headline: the figure that the accuracy alerts watch: mae | rmse, or
#     accuracy | macro_f1 | balanced_accuracy | log_loss | brier | auc
#   a public name for a column: `area: {column: OverallQual}` instead of `OverallQual: {}`
#   ignore: [column, …] leaves columns out
#   segments: [feature, …] breaks the error down by their values: up to 5, of few values each
"""


def write_description(
    path: Path, name: str, target: str, headline: str, features: Iterable[Feature]
) -> None:
    """Write a first description to edit. Raises ModelError rather than replace a file."""
    content = {
        "name": name,
        "target": {"description": target, "unit": ""},
        "headline": headline,
        "ignore": [],
        "features": {feature.name: _inferred(feature) for feature in features},
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_HEAD + text)
    except FileExistsError:
        raise ModelError(f"{path} exists: move it away, or choose another name") from None
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or first_line(error)}") from error


def _inferred(feature: Feature) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": feature.name,
        "unit": feature.unit,
        "type": feature.type,
        "nullable": feature.nullable,
    }
    if feature.type == "category":
        found["unseen"] = feature.unseen
    return found
