"""The parts of the OpenAPI document that FastAPI cannot derive from a route's signature.

Routes read their bodies themselves, so their request schemas are added here; and every example is
what the service really answers.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.answers import DETAIL, ErrorForm, encode_error
from serving.example import example_row
from serving.http.errors import ErrorResponse
from serving.inputs import InvalidInputError, check_length
from serving.overload import describe_overload
from serving.service import Service

Json = dict[str, Any]
Responses = dict[int | str, Json]

_SCHEMAS = "#/components/schemas/"

TAGS = [
    {"name": "predictions", "description": "Predict rows, and later send their true values."},
    {"name": "model", "description": "Which model runs, and whether it is ready."},
    {
        "name": "open inference protocol",
        "description": "The same model for clients of KServe, Triton and MLServer (REST, version"
        " 2). Bodies may be compressed with gzip or deflate.",
    },
    {
        "name": "mlflow",
        "description": "The same model for clients of MLflow's scoring server. Bodies may be"
        " compressed with gzip or deflate.",
    },
]


def add_schemas(app: FastAPI, models: Sequence[type[BaseModel]]) -> None:
    """Add the schemas of request bodies to an application's document."""
    create = app.openapi

    def openapi() -> Json:
        if app.openapi_schema is None:
            document = create()
            _drop_validation_errors(document)
            inputs = [(model, "validation") for model in models]
            _, definitions = models_json_schema(inputs, ref_template=_SCHEMAS + "{model}")  # type: ignore[arg-type]
            schemas: Json = document["components"]["schemas"]
            document["components"]["schemas"] = dict(
                sorted((schemas | definitions["$defs"]).items())
            )
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _drop_validation_errors(document: Json) -> None:
    """Drop FastAPI's 422 of routes with path parameters: any string is valid there."""
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path in document["paths"].values():
        for operation in path.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]


def reference(model: type[BaseModel]) -> Json:
    """Return a reference to the schema of a model."""
    return {"$ref": _SCHEMAS + model.__name__}


def body(schema: Json, examples: Json) -> Json:
    """Return the documentation of a body that the route reads itself; examples by their summary."""
    content = {"application/json": {"schema": schema, "examples": _examples(examples)}}
    return {"requestBody": {"required": True, "content": content}}


def response(description: str, examples: Json, model: Any = None) -> Json:  # noqa: ANN401 a type form
    """Return the documentation of a response; examples by their summary."""
    content = {"application/json": {"examples": _examples(examples)}}
    documented = {"description": description, "content": content}
    return documented if model is None else documented | {"model": model}


def rejections(
    service: Service,
    handle: Callable[[bytes], object],
    faulty: Any,  # noqa: ANN401 any JSON
    form: ErrorForm = DETAIL,
    model: type[BaseModel] = ErrorResponse,
) -> Responses:
    """Return the documentation of a route's errors, with the answer to a faulty body."""
    limit = service.max_body_bytes
    too_large = error_of(lambda: check_length(limit + 1, limit), form)
    overload = json.loads(encode_error(describe_overload(), form).body)
    rejected = error_of(lambda: handle(json.dumps(faulty).encode()), form)
    return {
        413: response("The body is too large", {"Too large": too_large}, model),
        422: response("The input is rejected, with field and reason", {"A fault": rejected}, model),
        503: response("The service is overloaded", {"Overload": overload}, model),
    }


def error_of(call: Callable[[], object], form: ErrorForm = DETAIL) -> Json:
    """Return the answer to the error that a call raises."""
    try:
        call()
    except InvalidInputError as error:
        answer: Json = json.loads(encode_error(error, form).body)
        return answer
    raise AssertionError("the example of an error is none")


def fault(service: Service) -> tuple[str, float | str]:
    """Return a realistic fault of the example row: a feature, and a value out of its range."""
    features = service.manifest.features
    numbers = [each for each in features if each.type in ("number", "integer")]
    for feature in numbers:
        if feature.maximum is not None:
            return feature.name, feature.maximum + 1
    lowest = next((each for each in numbers if each.minimum is not None), None)
    if lowest is not None and lowest.minimum is not None:
        return lowest.name, lowest.minimum - 1
    first = features[0]
    is_text = first.type == "category" and isinstance(first.categories[0], str)
    return first.name, 0 if is_text else "unknown"


def faulty_row(service: Service) -> Json:
    """Return the example row with a fault."""
    name, value = fault(service)
    return example_row(service.manifest) | {name: value}


def _examples(examples: Json) -> Json:
    return {
        summary.lower().replace(" ", "_"): {"summary": summary, "value": value}
        for summary, value in examples.items()
    }
