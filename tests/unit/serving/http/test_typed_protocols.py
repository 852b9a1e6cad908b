"""Whatever the protocol, rows of every type and classes are the same."""

import asyncio
import json
import math
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from serving.app import create_service
from serving.http.router import add_api
from serving.settings import Settings
from tests.support.grades import build_grades

INFER = "/v2/models/grades/infer"
ROWS: list[dict[str, Any]] = [
    {"amount": 120.5, "purpose": "trip", "rating": 1, "member": True},
    {"amount": None, "purpose": None, "rating": 3, "member": False},
    {"amount": 3.0, "purpose": "boat", "rating": 2, "member": True},
]


@pytest.fixture(name="app", scope="module")
def _app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    directory = tmp_path_factory.mktemp("grades")
    build_grades(directory / "bundle")
    settings = Settings(
        bundle=directory / "bundle",
        metrics_dir=directory,
        prediction_keys=SecretStr("k" * 32),
    )
    app = FastAPI()
    add_api(app, create_service(settings))
    return app


def send(app: FastAPI, path: str, body: Any = None) -> httpx.Response:  # noqa: ANN401 any JSON
    """Return the answer to a POST of JSON that may have NaN, or to a GET."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            if body is None:
                return await client.get(path)
            return await client.post(path, content=json.dumps(body).encode())

    return asyncio.run(ask())


@pytest.fixture(name="expected", scope="module")
def _expected(app: FastAPI) -> list[dict[str, Any]]:
    """Return the answers to the rows, one request each."""
    answers = [send(app, "/predict", row) for row in ROWS]
    assert [each.status_code for each in answers] == [200] * len(ROWS)
    return [each.json() for each in answers]


def tensor(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
    """Return an input of the Open Inference Protocol."""
    return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}


def columns(**replaced: dict[str, Any]) -> dict[str, Any]:
    """Return the rows as tensors, some of them replaced."""
    types = {"amount": "FP64", "purpose": "BYTES", "rating": "INT64", "member": "BOOL"}
    inputs = {name: tensor(name, types[name], [row[name] for row in ROWS]) for name in types}
    return {"inputs": [*(inputs | replaced).values()]}


def test_a_classification_answers_with_class_and_probabilities(
    app: FastAPI, expected: list[dict[str, Any]]
) -> None:
    """Keys are in the documented order, a batch has the same values, the class is likeliest."""
    batch = send(app, "/predict/batch", {"instances": ROWS}).json()["predictions"]

    for one, other in zip(expected, batch, strict=True):
        assert [*one] == ["grade", "probabilities", "prediction_id", "model_version"]
        assert [*one["probabilities"]] == ["1", "2", "3"]
        assert one["grade"] == int(max(one["probabilities"], key=one["probabilities"].get))
        assert sum(one["probabilities"].values()) == pytest.approx(1)
        assert (one["grade"], one["probabilities"]) == (other["grade"], other["probabilities"])


@pytest.mark.parametrize(
    "replaced",
    [
        {},
        {"member": tensor("member", "FP64", [1.0, 0.0, 1.0])},
        {"member": tensor("member", "INT32", [1, 0, 1])},
        {"rating": tensor("rating", "FP32", [1.0, 3.0, 2.0])},
        {"amount": tensor("amount", "FP64", [120.5, math.nan, 3.0])},
    ],
)
def test_tensors_have_the_same_rows(
    app: FastAPI, expected: list[dict[str, Any]], replaced: dict[str, Any]
) -> None:
    """Text is BYTES, truth values are BOOL or 1 and 0; classes and probabilities come back."""
    answer = send(app, INFER, columns(**replaced))
    assert answer.status_code == 200, answer.text
    outputs = {each["name"]: each for each in answer.json()["outputs"]}

    assert [*outputs] == ["grade", "probabilities", "prediction_id"]
    assert (outputs["grade"]["datatype"], outputs["grade"]["shape"]) == ("INT64", [3])
    assert outputs["grade"]["data"] == [each["grade"] for each in expected]
    assert outputs["probabilities"]["shape"] == [3, 3]
    flat = [p for each in expected for p in each["probabilities"].values()]
    assert outputs["probabilities"]["data"] == flat


def test_the_model_describes_its_tensors(app: FastAPI) -> None:
    """Types by feature; integers and truth values with gaps would be FP64."""
    model = send(app, "/v2/models/grades").json()

    assert {each["name"]: each["datatype"] for each in model["inputs"]} == {
        "amount": "FP64",
        "purpose": "BYTES",
        "rating": "INT64",
        "member": "BOOL",
    }
    assert [(each["name"], each["datatype"], each["shape"]) for each in model["outputs"]] == [
        ("grade", "INT64", [-1]),
        ("probabilities", "FP64", [-1, 3]),
        ("prediction_id", "BYTES", [-1]),
    ]


def test_requested_tensors_alone_come_back(app: FastAPI) -> None:
    """In the order of the request."""
    outputs = [{"name": "probabilities"}, {"name": "grade"}]
    answer = send(app, INFER, columns() | {"outputs": outputs}).json()

    assert [each["name"] for each in answer["outputs"]] == ["probabilities", "grade"]


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"purpose": tensor("purpose", "FP64", [1.0, 2.0, 3.0])}, "purpose[0]: "),
        ({"member": tensor("member", "FP64", [2.0, 0.0, 1.0])}, "member[0]: "),
        ({"rating": tensor("rating", "INT64", [1, 3, 9])}, "rating[2]: Input should be one of"),
    ],
)
def test_values_of_another_type_are_rejected(
    app: FastAPI, replaced: dict[str, Any], message: str
) -> None:
    """The message names feature and row."""
    answer = send(app, INFER, columns(**replaced))

    assert answer.status_code == 422
    assert message in answer.json()["error"]


def test_data_frames_have_the_same_rows(app: FastAPI, expected: list[dict[str, Any]]) -> None:
    """NaN is a missing value in a column of text, too."""
    data = [[math.nan if value is None else value for value in row.values()] for row in ROWS]
    body = {"dataframe_split": {"columns": [*ROWS[0]], "data": data}}
    answer = send(app, "/invocations", body).json()

    assert answer["predictions"] == [each["grade"] for each in expected]
    assert answer["probabilities"] == [each["probabilities"] for each in expected]


def test_labels_of_every_protocol_are_accepted(
    app: FastAPI, expected: list[dict[str, Any]]
) -> None:
    """Ids of tensors and data frames are those of /predict."""
    tensors = send(app, INFER, columns()).json()["outputs"][-1]["data"]
    ids = [*tensors, *(each["prediction_id"] for each in expected)]
    labels = [{"prediction_id": id_, "actual": 2} for id_ in ids]
    answer = send(app, "/feedback", labels).json()

    assert (answer["accepted"], answer["rejected"]) == (6, 0)
    assert send(app, "/feedback", {"prediction_id": ids[0], "actual": "2"}).status_code == 422
