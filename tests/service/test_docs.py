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


# Every operation by the name that a generated client gives it.
OPERATIONS = {
    "predict": "/predict",
    "predict_batch": "/predict/batch",
    "feedback": "/feedback",
    "get_model": "/",
    "healthz": "/healthz",
    "readyz": "/readyz",
    "v2_server": "/v2",
    "v2_live": "/v2/health/live",
    "v2_ready": "/v2/health/ready",
    "v2_model": "/v2/models/{name}",
    "v2_model_ready": "/v2/models/{name}/ready",
    "v2_model_infer": "/v2/models/{name}/infer",
    "v2_model_version": "/v2/models/{name}/versions/{version}",
    "v2_model_version_ready": "/v2/models/{name}/versions/{version}/ready",
    "v2_model_version_infer": "/v2/models/{name}/versions/{version}/infer",
    "invocations": "/invocations",
    "ping": "/ping",
    "version": "/version",
}
POSTS = [
    *("/predict", "/predict/batch", "/feedback", "/invocations"),
    *("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"),
]


def schema(openapi: Json, name: str) -> Json:
    """Return a schema of the components."""
    found: Json = openapi["components"]["schemas"][name]
    return found


def content(documented: Json) -> Json:
    """Return the JSON content of a body or a response."""
    found: Json = documented["content"]["application/json"]
    return found


def examples(documented: Json) -> list[Any]:
    """Return the examples of a body or a response."""
    return [each["value"] for each in content(documented)["examples"].values()]


def post(model: Model, manifest: Manifest, path: str, sent: Any) -> httpx.Response:  # noqa: ANN401
    """Send an example to a documented path."""
    url = path.format(name=manifest.name, version=manifest.version)
    return httpx.post(f"{model.url}{url}", json=sent)


def test_every_feature_is_documented(openapi: Json, example: Manifest) -> None:
    """With its unit, its meaning, its range and an example, required; in the bundle's order."""
    request = schema(openapi, "PredictRequest")
    batch = schema(openapi, "PredictBatchRequest")["properties"]["instances"]

    assert (batch["minItems"], batch["maxItems"]) == (1, 1000)
    assert batch["items"] == {"$ref": "#/components/schemas/PredictRequest"}
    assert [feature.name for feature in example.features] == list(request["properties"])
    assert set(request["required"]) == set(request["properties"])
    for feature in example.features:
        shown = request["properties"][feature.name]
        assert shown["description"] == f"{feature.description} ({feature.unit})"
        assert shown["type"] == "number"
        assert shown["minimum"] == feature.minimum
        assert shown.get("maximum") == feature.maximum
        assert shown["examples"] == [feature.example]


@pytest.mark.parametrize("path", POSTS)
def test_every_example_of_a_request_is_answered_as_documented(
    openapi: Json, model: Model, example: Manifest, path: str
) -> None:
    """What /docs offers to send gets the documented answer; a label's example belongs to nobody."""
    route = openapi["paths"][path]["post"]
    sent = examples(route["requestBody"])
    status = "422" if path == "/feedback" else "200"
    documented = examples(route["responses"][status])[0]

    assert sent
    for each in sent:
        answer = post(model, example, path, each)

        assert answer.status_code == int(status)
        assert [*answer.json()] == [key for key in documented if key != "id" or "id" in each]
        assert without_ids(answer.json()) == without_ids(documented)


def without_ids(answer: Any) -> Any:  # noqa: ANN401 any JSON
    """Return an answer without what no two requests share."""
    if isinstance(answer, dict):
        return {
            key: without_ids(value)
            for key, value in answer.items()
            if not key.startswith("prediction_id") and key != "id"
        }
    if isinstance(answer, list):
        return [without_ids(each) for each in answer if each_has_no_ids(each)]
    return answer


def each_has_no_ids(each: Any) -> bool:  # noqa: ANN401 any JSON
    """Return whether an element is not the tensor of the ids."""
    return not (isinstance(each, dict) and each.get("name") == "prediction_id")


def test_examples_of_errors_are_what_is_sent(
    openapi: Json, model: Model, example: Manifest
) -> None:
    """A row with the documented fault gets the documented answer; so does a body without labels."""
    paths = openapi["paths"]
    (row,) = examples(paths["/predict"]["post"]["requestBody"])
    (fault,) = examples(paths["/predict"]["post"]["responses"]["422"])
    field = fault["detail"][0]["loc"][-1]
    faulty = row | {field: 15}

    assert post(model, example, "/predict", faulty).json() == fault
    (fault,) = examples(paths["/predict/batch"]["post"]["responses"]["422"])
    assert post(model, example, "/predict/batch", {"instances": [row, faulty]}).json() == fault
    (fault,) = examples(paths["/invocations"]["post"]["responses"]["422"])
    assert post(model, example, "/invocations", {"instances": [faulty]}).json() == fault
    (fault,) = examples(paths["/v2/models/{name}/infer"]["post"]["responses"]["422"])
    matrix = {"name": "x", "shape": [1, 11], "datatype": "FP64", "data": [*faulty.values()]}
    answer = post(model, example, "/v2/models/{name}/infer", {"inputs": [matrix]})
    assert answer.json() == fault
    label, body = examples(paths["/feedback"]["post"]["responses"]["422"])
    assert label["results"][0]["reason"] == "unknown"
    assert post(model, example, "/feedback", []).json() == body


@pytest.mark.parametrize("path", POSTS)
def test_the_example_of_a_large_body_is_what_is_sent(
    openapi: Json, model: Model, example: Manifest, path: str
) -> None:
    """413, in the form of the route's protocol."""
    (documented,) = examples(openapi["paths"][path]["post"]["responses"]["413"])
    url = path.format(name=example.name, version=example.version)
    answer = httpx.post(f"{model.url}{url}", content=b" " * 2_000_001)

    assert answer.status_code == 413
    assert answer.json() == documented


def test_answers_are_documented(openapi: Json, example: Manifest) -> None:
    """The target with its meaning and range; a rejection of feedback in both of its forms."""
    quality = schema(openapi, "PredictResponse")["properties"]["quality"]
    label = schema(openapi, "FeedbackLabel")["properties"]
    rejected = content(openapi["paths"]["/feedback"]["post"]["responses"]["422"])["schema"]

    assert quality["description"] == example.target.description
    assert (quality["minimum"], quality["maximum"]) == (0, 10)
    assert label["prediction_id"]["minLength"] == 1
    assert (label["actual"]["minimum"], label["actual"]["maximum"]) == (0, 10)
    assert [each["$ref"].rpartition("/")[2] for each in rejected["anyOf"]] == [
        "FeedbackResponse",
        "ErrorResponse",
    ]
    for path in POSTS:
        assert {"200", "413", "422"} <= openapi["paths"][path]["post"]["responses"].keys()
    for reference in re.findall(r"#/components/schemas/(\w+)", str(openapi)):
        assert reference in openapi["components"]["schemas"]


def test_every_route_is_documented(openapi: Json, example: Manifest) -> None:
    """All but the older name of /healthz and HEAD; under the model's name and version."""
    operations = {
        operation["operationId"]: path
        for path, operations in openapi["paths"].items()
        for operation in operations.values()
    }

    assert operations == OPERATIONS
    assert openapi["info"]["title"] == example.name
    assert openapi["info"]["version"] == example.version
    tags = {each["name"] for each in openapi["tags"]}
    for path in openapi["paths"].values():
        for operation in path.values():
            assert tags.issuperset(operation["tags"])
            assert operation["tags"]


def test_the_document_is_the_same_from_every_worker(model: Model) -> None:
    """A client that is generated again does not change."""
    documents = {httpx.get(f"{model.url}/openapi.json").text for _ in range(20)}

    assert len(documents) == 1


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_pages_load_nothing_from_elsewhere(model: Model, path: str) -> None:
    """Script, style and icon come from this server, and it has them; nothing from another host."""
    page = httpx.get(f"{model.url}{path}").raise_for_status().text
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page)

    assert loaded
    assert not re.findall(r"https?://|[\"'(]//", page)
    for link in loaded:
        assert httpx.get(f"{model.url}{link}").status_code == 200
