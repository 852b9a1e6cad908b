"""The model that Fiddler gets for a segment's header: task, columns and what they mean."""

from collections.abc import Iterator
from uuid import UUID

import fiddler as fdl

from publisher.errors import StoppedError
from publisher.fiddler_columns import (
    EVENT_ID,
    EVENT_TIME,
    TIME_FORMAT,
    output_name,
    probability_columns,
)
from publisher.header import Category, Column, Header, Range, to_text

_BINARY = 2
_TYPES = {
    "number": fdl.DataType.FLOAT,
    "integer": fdl.DataType.INTEGER,
    "boolean": fdl.DataType.BOOLEAN,
    "category": fdl.DataType.CATEGORY,
    "datetime": fdl.DataType.TIMESTAMP,
}
# Types of Fiddler's columns that take our values as well.
_FITTING = {
    fdl.DataType.INTEGER: (fdl.DataType.INTEGER, fdl.DataType.FLOAT),
    fdl.DataType.STRING: (fdl.DataType.STRING, fdl.DataType.CATEGORY),
    fdl.DataType.CATEGORY: (fdl.DataType.CATEGORY, fdl.DataType.STRING),
    fdl.DataType.TIMESTAMP: (fdl.DataType.TIMESTAMP, fdl.DataType.STRING),
}


def new_model(header: Header, project: UUID) -> "fdl.Model":
    """Return the model that a header describes; it does not exist at Fiddler yet.

    Raises StoppedError if Fiddler could not tell its columns or classes apart.
    """
    columns = [*_columns(header)]
    _require_unique("column names", [column.name for column in columns])
    _require_unique("classes", [*map(to_text, header.target.classes)])
    return fdl.Model(
        name=header.model,
        version=header.version,
        project_id=project,
        schema=fdl.ModelSchema(columns=columns),
        spec=_spec(header),
        task=_task(header),
        task_params=_task_params(header),
        event_id_col=EVENT_ID,
        event_ts_col=EVENT_TIME,
        event_ts_format=TIME_FORMAT,
    )


def check_model(model: "fdl.Model", header: Header) -> None:
    """Raise StoppedError if an existing model's schema does not fit the events."""
    name = f"Fiddler's {header.model} {header.version}"
    expected = {each.name: each.data_type for each in new_model(header, UUID(int=0)).schema.columns}
    found = {each.name: each.data_type for each in model.schema.columns}
    if missing := expected.keys() - found.keys():
        raise StoppedError("schema", f"{name} lacks {', '.join(sorted(missing))}")
    for column, type_ in expected.items():
        if found[column] not in _FITTING.get(type_, (type_,)):
            message = f"{name} has {column} as {found[column].value}, not as {type_.value}"
            raise StoppedError("schema", message)
    if model.event_id_col != EVENT_ID:
        message = f"{name} uses {model.event_id_col} as the event id, not {EVENT_ID}"
        raise StoppedError("schema", f"{message}: labels would match no event")


def _require_unique(what: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise StoppedError("schema", f"{what} are not unique: {', '.join(sorted(names))}")


def _columns(header: Header) -> Iterator["fdl.Column"]:
    target = header.target
    for feature in header.features:
        yield _feature(feature)
    if target.classes:
        yield _category(output_name(target.name), target.classes)
        for _, name in probability_columns(header):
            yield fdl.Column(name=name, data_type=fdl.DataType.FLOAT, min=0.0, max=1.0)
        yield _category(target.name, target.classes)
    else:
        yield _number(output_name(target.name), header.prediction, fdl.DataType.FLOAT)
        yield _feature(target)
    yield fdl.Column(name=EVENT_ID, data_type=fdl.DataType.STRING)
    yield fdl.Column(name=EVENT_TIME, data_type=fdl.DataType.TIMESTAMP)


def _feature(column: Column) -> "fdl.Column":
    if column.type == "category":
        return _category(column.name, column.categories)
    if column.type in ("number", "integer"):
        return _number(column.name, column, _TYPES[column.type])
    return fdl.Column(name=column.name, data_type=_TYPES[column.type])


def _number(name: str, values: Range, type_: "fdl.DataType") -> "fdl.Column":
    return fdl.Column(name=name, data_type=type_, min=values.minimum, max=values.maximum)


def _category(name: str, categories: tuple[Category, ...]) -> "fdl.Column":
    texts = [*map(to_text, categories)]
    return fdl.Column(name=name, data_type=fdl.DataType.CATEGORY, categories=texts)


def _spec(header: Header) -> "fdl.ModelSpec":
    """Return the roles of the columns.

    The outputs of a classification are probabilities at Fiddler, and the class is a decision. If
    the model has no probabilities, the class is the output.
    """
    output = output_name(header.target.name)
    probabilities = [name for _, name in probability_columns(header)]
    return fdl.ModelSpec(
        inputs=[each.name for each in header.features],
        outputs=probabilities or [output],
        decisions=[output] if probabilities else [],
        targets=[header.target.name],
        metadata=[EVENT_ID, EVENT_TIME],
    )


def _task(header: Header) -> "fdl.ModelTask":
    if header.task == "regression":
        return fdl.ModelTask.REGRESSION
    if len(header.target.classes) == _BINARY:
        return fdl.ModelTask.BINARY_CLASSIFICATION
    return fdl.ModelTask.MULTICLASS_CLASSIFICATION


def _task_params(header: Header) -> "fdl.ModelTaskParams | None":
    """Return the classes in the order of the outputs; of two, the second one is the positive."""
    classes = header.target.classes
    if not classes:
        return None
    binary = len(classes) == _BINARY and header.prediction.probabilities
    return fdl.ModelTaskParams(
        target_class_order=[*map(to_text, classes)],
        # The prediction is the more likely class.
        binary_classification_threshold=0.5 if binary else None,
    )
