"""The documentation comes from the bundle, and from nobody's CDN."""

import re
from typing import Any

import httpx
import pytest

from bundle.manifest import Manifest
from tests.support.model import Model

Json = dict[str, Any]


@pytest.fixture(name="openapi", scope="module")
def _openapi(model: Model) -> Json:
    document: Json = httpx.get(f"{model.url}/openapi.json").raise_for_status().json()
    return document


def body(openapi: Json, path: str) -> Json:
    """Return the schema of a route's body."""
    content: Json = openapi["paths"][path]["post"]["requestBody"]["content"]
    schema: Json = content["application/json"]["schema"]
    return schema


def test_every_feature_is_documented(openapi: Json, example: Manifest) -> None:
    """With its unit, its meaning, its range and an example, required; alone and in a batch."""
    one = body(openapi, "/predict")
    many = body(openapi, "/predict/batch")["properties"]["instances"]

    assert (many["minItems"], many["maxItems"]) == (1, 1000)
    for schema in (one, many["items"]):
        assert [feature.name for feature in example.features] == list(schema["properties"])
        assert set(schema["required"]) == set(schema["properties"])
        for feature in example.features:
            shown = schema["properties"][feature.name]
            assert shown["description"] == f"{feature.description} ({feature.unit})"
            assert shown["type"] == "number"
            assert shown["minimum"] == feature.minimum
            assert shown.get("maximum") == feature.maximum
            assert shown["examples"] == [feature.example]


def test_the_example_works(openapi: Json, model: Model) -> None:
    """What /docs offers to send is accepted."""
    (example,) = body(openapi, "/predict")["examples"]

    assert httpx.post(f"{model.url}/predict", json=example).status_code == 200
    batch = {"instances": [example]}
    assert httpx.post(f"{model.url}/predict/batch", json=batch).status_code == 200


def test_answers_are_documented(openapi: Json, example: Manifest) -> None:
    """The target with its meaning and range; a refusal with its field and reason."""
    responses = openapi["paths"]["/predict"]["post"]["responses"]
    schemas = openapi["components"]["schemas"]

    quality = schemas["Prediction"]["properties"]["quality"]
    assert quality["description"] == example.target.description
    assert (quality["minimum"], quality["maximum"]) == (0, 10)
    assert {"200", "413", "422"} <= responses.keys()
    for reference in re.findall(r"#/components/schemas/(\w+)", str(openapi)):
        assert reference in schemas


def test_every_route_is_documented(openapi: Json, example: Manifest) -> None:
    """All but the older name of /healthz; under the model's name and version."""
    assert openapi["paths"].keys() == {
        *("/", "/healthz", "/readyz", "/predict", "/predict/batch", "/feedback"),
    }
    assert openapi["info"]["title"] == example.name
    assert openapi["info"]["version"] == example.version


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_pages_load_nothing_from_elsewhere(model: Model, path: str) -> None:
    """Script, style and icon come from this server, and it has them; nothing from another host."""
    page = httpx.get(f"{model.url}{path}").raise_for_status().text
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page)

    assert loaded
    assert not re.findall(r"https?://|[\"'(]//", page)
    for link in loaded:
        assert httpx.get(f"{model.url}{link}").status_code == 200
