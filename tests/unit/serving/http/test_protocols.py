"""Whatever the protocol, the same rows have the same predictions, faults and metrics."""

import asyncio
import gzip
import json
import math
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sklearn.ensemble import HistGradientBoostingRegressor

from bundle.build import build_bundle
from bundle.checks import Recipe
from bundle.manifest import Feature, Quantity
from serving.app import create_service
from serving.http.body import decompress
from serving.http.router import add_api
from serving.inputs import MAX_ROWS, InvalidInputError
from serving.service import Service
from serving.settings import Settings
from tests.support.bundles import read_metrics
from tests.support.model import Samples, total

Json = Any
Row = dict[str, Any]

RECIPE = Recipe(
    name="made-up",
    target=Quantity(name="y", description="what is predicted"),
    features=(
        Feature(name="a", description="bounded", minimum=-100, maximum=100),
        Feature(name="b (%)", description="may be missing", nullable=True),
        Feature(name="c", description="whole", type="integer", minimum=-1000, maximum=1000),
    ),
)
NAMES = [feature.name for feature in RECIPE.features]
GOOD = [dict(zip(NAMES, values, strict=True)) for values in ((1.5, 0.25, 3), (-2.0, 1e-9, 40))]
MAX_BYTES = 100_000

INFER = "/v2/models/made-up/infer"


@pytest.fixture(name="bundle", scope="module")
def _bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("protocols") / "bundle"
    random = np.random.default_rng(0)

    def frame(rows: int) -> pd.DataFrame:
        values = random.normal(0, 10, (rows, 2)).T
        c = random.integers(-100, 100, rows)
        missing = np.where(random.random(rows) < 0.2, np.nan, values[1])
        return pd.DataFrame({"a": values[0], "b (%)": missing, "c": c, "y": values[0] + c})

    estimator = HistGradientBoostingRegressor(max_iter=5, random_state=0)
    build_bundle(estimator, frame(400), frame(100), RECIPE, directory)
    return directory


@dataclass(frozen=True)
class Running:
    """An application with metrics of its own."""

    app: FastAPI
    service: Service
    directory: Path

    def send(self, path: str, body: Json, **headers: str) -> httpx.Response:
        """Return the answer to a body, bytes or JSON that may have NaN."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def post() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
                return await client.post(path, content=content, headers=headers)

        return asyncio.run(post())

    def get(self, path: str, method: str = "GET") -> httpx.Response:
        """Return the answer to a request without a body."""

        async def get() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
                return await client.request(method, path)

        return asyncio.run(get())

    def counters(self) -> bytes:
        """Return every counter of the model, as the file holds it."""
        (file,) = self.directory.glob("counter_model_*.db")
        return file.read_bytes()

    def samples(self) -> Samples:
        """Return the metrics but for the times."""
        samples = read_metrics(self.directory)
        return {key: samples[key] for key in samples if "seconds" not in key[0]}


Run = Callable[[str], Running]


@pytest.fixture(name="run")
def _run(bundle: Path, tmp_path: Path) -> Run:
    def run(name: str) -> Running:
        directory = tmp_path / name
        directory.mkdir()
        settings = Settings(
            bundle=bundle,
            metrics_dir=directory,
            prediction_keys=SecretStr("k" * 32),
            max_body_bytes=MAX_BYTES,
            overload_seconds=60,
        )
        service = create_service(settings)
        app = FastAPI()
        add_api(app, service)
        return Running(app, service, directory)

    return run


def columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return the values by name."""
    names = rows[0] if rows else NAMES
    return {name: [row[name] for row in rows] for name in names}


def values(rows: Sequence[Row]) -> list[list[Any]]:
    """Return the values of each row."""
    return [[*row.values()] for row in rows]


def tensor(name: str, shape: list[int], data: list[Any], datatype: str = "FP64") -> Json:
    """Return an input tensor."""
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def by_feature(rows: Sequence[Row]) -> Json:
    """Return one tensor of rank 1 for each feature."""
    return {"inputs": [tensor(name, [len(rows)], data) for name, data in columns(rows).items()]}


def by_column(rows: Sequence[Row]) -> Json:
    """Return one nested tensor of rank 2 for each feature."""
    nested = {name: [[value] for value in data] for name, data in columns(rows).items()}
    return {"inputs": [tensor(name, [len(rows), 1], data) for name, data in nested.items()]}


def flat_matrix(rows: Sequence[Row]) -> Json:
    """Return one matrix with flat data."""
    flat = [value for row in values(rows) for value in row]
    return {"inputs": [tensor("rows", [len(rows), len(NAMES)], flat)]}


def nested_matrix(rows: Sequence[Row]) -> Json:
    """Return one matrix with nested data."""
    return {"inputs": [tensor("rows", [len(rows), len(NAMES)], values(rows))]}


FORMS: dict[str, tuple[str, Callable[[Sequence[Row]], Json]]] = {
    "by feature": (INFER, by_feature),
    "by column": (INFER, by_column),
    "flat matrix": (INFER, flat_matrix),
    "nested matrix": (INFER, nested_matrix),
    "split": (
        "/invocations",
        lambda rows: {"dataframe_split": {"columns": [*columns(rows)], "data": values(rows)}},
    ),
    "records": ("/invocations", lambda rows: {"dataframe_records": rows}),
    "instances": ("/invocations", lambda rows: {"instances": rows}),
    "instances matrix": ("/invocations", lambda rows: {"instances": values(rows)}),
    "inputs": ("/invocations", lambda rows: {"inputs": columns(rows)}),
    "inputs matrix": ("/invocations", lambda rows: {"inputs": values(rows)}),
}
NAMED = [form for form in FORMS if "matrix" not in form]


def changed(name: str, value: float | str | None) -> list[Row]:
    """Return good rows with one value of the last one replaced."""
    return [GOOD[0], GOOD[1] | {name: value}]


SENT: dict[str, list[Row]] = {
    "good rows": GOOD,
    "a missing value": changed("b (%)", None),
    "above": changed("a", 100.5),
    "below": changed("c", -1001),
    "a fraction": changed("c", 0.5),
    "null in a feature that is not nullable": changed("a", None),
    "NaN in a feature that is not nullable": changed("a", math.nan),
    "infinity": changed("b (%)", -math.inf),
    "text": changed("b (%)", "blue"),
    "a boolean": changed("a", value=True),
    "several faults": [row | {"a": 1e6, "c": None} for row in GOOD],
    "no rows": [],
    "too many rows": [GOOD[0]] * (MAX_ROWS + 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_rows_are_counted_the_same(run: Run, form: str) -> None:
    """Status, values and every counter are those of a batch; the counters to the last byte."""
    batch, other = run("batch"), run("other")
    path, encode = FORMS[form]
    for name, rows in SENT.items():
        expected = batch.send("/predict/batch", {"instances": rows})
        answer = other.send(path, encode(rows))

        assert answer.status_code == expected.status_code, name
        assert other.counters() == batch.counters(), name
        assert other.samples() == batch.samples(), name
        if answer.status_code == 200:
            assert predictions(answer) == [each["y"] for each in expected.json()["predictions"]]
    assert total(other.samples(), "model_predictions_total") == 4
    assert total(other.samples(), "model_rows_rejected_total") == 9 * 2 + 1 + MAX_ROWS + 1


def predictions(answer: httpx.Response) -> list[float]:
    """Return the values that either protocol answers."""
    document = answer.json()
    found: list[float] = document.get("predictions") or document["outputs"][0]["data"]
    return found


@pytest.mark.parametrize("form", FORMS)
def test_nan_is_a_missing_value_like_null(run: Run, form: str) -> None:
    """In a nullable feature; the counters are those of null in a batch."""
    batch, other = run("batch"), run("other")
    path, encode = FORMS[form]
    expected = batch.send("/predict/batch", {"instances": changed("b (%)", None)})
    answer = other.send(path, encode(changed("b (%)", math.nan)))

    assert predictions(answer) == [each["y"] for each in expected.json()["predictions"]]
    assert other.counters() == batch.counters()
    assert total(other.samples(), "model_feature_bin_total", feature="b (%)", bin="missing") == 1


@pytest.mark.parametrize("form", NAMED)
def test_undeclared_columns_are_ignored_and_counted(run: Run, form: str) -> None:
    """Once for each row, as undeclared fields of a batch; and not at all if the rows are bad."""
    path, encode = FORMS[form]
    for rows in (GOOD, changed("a", 1e9)):
        sent = [row | {"colour": 1.0} for row in rows]
        batch, other = run(f"batch {rows[1]['a']}"), run(f"other {rows[1]['a']}")
        batch.send("/predict/batch", {"instances": sent})
        other.send(path, encode(sent))

        assert other.counters() == batch.counters()


@pytest.mark.parametrize("form", NAMED)
def test_a_missing_column_is_a_fault_of_each_row(run: Run, form: str) -> None:
    """As a field that is missing in each row of a batch; the error names it."""
    sent = [{name: row[name] for name in ("a", "b (%)")} for row in GOOD]
    path, encode = FORMS[form]
    batch, other = run("batch"), run("other")
    batch.send("/predict/batch", {"instances": sent})
    answer = other.send(path, encode(sent))

    assert error(answer) == "c[0]: Field required; c[1]: Field required"
    assert other.counters() == batch.counters()


def error(answer: httpx.Response) -> str:
    """Return the message of an error in either protocol's form."""
    assert answer.status_code >= 400
    document = answer.json()
    if "error" in document:
        assert document.keys() == {"error"}
        return str(document["error"])
    assert document.keys() == {"error_code", "message"}
    return str(document["message"])


MATRIX = tensor("rows", [1, 3], [1, 2, 3])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "the body: Input should be a valid dictionary"),
        ({}, "inputs: Field required"),
        ({"inputs": []}, "inputs: List should have at least 1 item"),
        ({"inputs": [tensor("rows", [1, 2], [1, 2])]}, "it has 2 columns, and the model has 3"),
        ({"inputs": [tensor("rows", [2, 3], [1, 2, 3])]}, "and it has 3 values"),
        ({"inputs": [tensor("rows", [2, 3], [[1, 2, 3], [4, 5]])]}, "not have the shape [2, 3]"),
        ({"inputs": [tensor("rows", [2, 3], [[1, 2, 3], 4])]}, "not have the shape [2, 3]"),
        ({"inputs": [tensor("rows", [1, 1, 3], [1, 2, 3])]}, "at most 2 items"),
        ({"inputs": [tensor("rows", [-1, 3], [1, 2, 3])]}, "greater than or equal to 0"),
        ({"inputs": [tensor("rows", [10**30, 3], [1, 2, 3])]}, "and it has 3 values"),
        ({"inputs": [tensor("a", [1, 3], [1, 2, 3])]}, "must be [rows] or [rows, 1]"),
        ({"inputs": [tensor("a", [1], [1], "FP16")]}, "its datatype is FP16, which is not one"),
        ({"inputs": [tensor("a", [1], [0.5], "INT64")]}, "a value is not a whole number"),
        ({"inputs": [tensor("a", [1], [math.nan], "INT32")]}, "a value is not a whole number"),
        ({"inputs": [tensor("a", [1], [1])] * 2}, "A tensor's name comes twice"),
        (
            {"inputs": [tensor("a", [1], [1]), tensor("c", [2], [1, 2])]},
            "One has 1 values, another 2",
        ),
        (
            {"inputs": [MATRIX], "outputs": [{"name": "x"}]},
            "outputs: x is not one of y, prediction_id",
        ),
        ({"inputs": [tensor("n" * 201, [1], [1])]}, "at most 200 characters"),
    ],
)
def test_a_malformed_infer_request_is_rejected(run: Run, document: Json, message: str) -> None:
    """422 with one line that says why; counted as one row with a fault of the body's type."""
    running = run("model")
    answer = running.send(INFER, document)

    assert answer.status_code == 422
    assert message in error(answer)
    assert one_fault(running) == ("_body", "type")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "Send an object with exactly one of dataframe_split, dataframe_records"),
        ({}, "Send an object with exactly one of"),
        ({"instances": GOOD, "inputs": GOOD}, "Send an object with exactly one of"),
        ({"instances": {"a": [1]}}, "instances: Send a list of rows"),
        ({"inputs": 5}, "inputs: Send a list of rows"),
        ({"inputs": {"a": 1}}, "inputs: Send a list of values for each feature"),
        ({"inputs": {"a": [1], "c": [1, 2]}}, "inputs: One has 1 values, another 2"),
        ({"inputs": [[1, 2]]}, "inputs: Row 0 is not a list of 3 values"),
        ({"instances": [[1, 2, 3], 4]}, "instances: Row 1 is not a list of 3 values"),
        ({"dataframe_records": {"a": 1}}, "dataframe_records: Send a list of rows"),
        ({"dataframe_records": [1]}, "instances.0: Input should be an object"),
        ({"dataframe_split": [1]}, "dataframe_split: Send an object with columns and data"),
        ({"dataframe_split": {"data": [[1]]}}, "dataframe_split.data: Row 0 is not a list of 3"),
        ({"dataframe_split": {"columns": "a", "data": []}}, "Send a list of names"),
        ({"dataframe_split": {"columns": [1], "data": []}}, "Send a list of names"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": []}}, "A name comes twice"),
    ],
)
def test_a_malformed_invocation_is_rejected(run: Run, document: Json, message: str) -> None:
    """422 with one line that says why; counted as a fault of the body's type."""
    running = run("model")
    answer = running.send("/invocations", document)

    assert answer.status_code == 422
    assert message in error(answer)
    assert answer.json()["error_code"] == "BAD_REQUEST"
    assert total(running.samples(), "model_input_rejected_total") == 1
    assert total(running.samples(), "model_input_rejected_total", field="_body", reason="type") == 1


def one_fault(running: Running) -> tuple[str, str]:
    """Return field and reason of the only fault, of one rejected row."""
    samples = running.samples()
    assert total(samples, "model_rows_rejected_total") == 1
    (labels,) = (
        dict(key[1])
        for key, value in samples.items()
        if key[0] == "model_input_rejected_total" and value
    )
    assert total(samples, "model_input_rejected_total") == 1
    return labels["field"], labels["reason"]


@pytest.mark.parametrize("path", [INFER, "/invocations"])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "malformed"),
        (b"\xff", "malformed"),
        (b'{"inputs": "\\ud800"}', "malformed"),
        (b"[" * 50_000, "malformed"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_json_is_rejected(run: Run, path: str, body: bytes, reason: str) -> None:
    """422, counted as a fault of the body."""
    running = run("model")

    assert running.send(path, body).status_code == 422
    assert one_fault(running) == ("_body", reason)


@pytest.mark.parametrize("form", FORMS)
def test_a_compressed_body_is_that_body(run: Run, form: str) -> None:
    """Its answer has the same values."""
    running = run("model")
    path, encode = FORMS[form]
    plain = running.send(path, encode(GOOD))
    content = json.dumps(encode(GOOD)).encode()
    for encoding, body in (
        ("gzip", gzip.compress(content)),
        ("GZIP", gzip.compress(content)),
        ("deflate", zlib.compress(content)),
        ("identity", content),
    ):
        answer = running.send(path, body, **{"Content-Encoding": encoding})

        assert predictions(answer) == predictions(plain)


@pytest.mark.parametrize("path", [INFER, "/invocations"])
@pytest.mark.parametrize(
    ("body", "encoding", "rejection"),
    [
        (gzip.compress(b" " * (MAX_BYTES + 1)), "gzip", (413, "too_large")),
        (gzip.compress(bytes(50_000_000)), "gzip", (413, "too_large")),
        (zlib.compress(b" " * (MAX_BYTES + 1)), "deflate", (413, "too_large")),
        (bytes(MAX_BYTES + 1), "gzip", (413, "too_large")),
        (b"{}", "gzip", (422, "malformed")),
        (b"", "gzip", (422, "malformed")),
        (gzip.compress(b"{}")[:-1], "gzip", (422, "malformed")),
        (gzip.compress(b"{}") + b"more", "gzip", (422, "malformed")),
        (b"{}", "br", (415, "malformed")),
    ],
    ids=["too large", "a bomb", "deflate", "compressed", "plain", "empty", "cut", "more", "br"],
)
def test_a_bad_compressed_body_is_rejected(
    run: Run, path: str, body: bytes, encoding: str, rejection: tuple[int, str]
) -> None:
    """The limit holds for the decompressed bytes as well as for those that were sent."""
    running = run("model")
    answer = running.send(path, body, **{"Content-Encoding": encoding})

    assert answer.status_code == rejection[0]
    assert error(answer)
    assert one_fault(running) == ("_body", rejection[1])


def test_no_more_than_the_limit_is_decompressed() -> None:
    """A bomb of 50 MB takes no more memory than the largest body."""
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInputError):
            decompress(bomb, "gzip", MAX_BYTES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 10 * MAX_BYTES


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("records", "instances")])
def test_too_many_rows_are_not_written_as_a_batch(run: Run, form: str) -> None:
    """A batch repeats the names for each row: it could be many times as large as the body."""
    running = run("model")
    path, encode = FORMS[form]

    def fail(_: bytes) -> None:
        raise AssertionError

    object.__setattr__(running.service.inputs, "decode_batch", fail)

    assert running.send(path, encode([GOOD[0]] * (MAX_ROWS + 1))).status_code == 422


def test_rows_at_the_limits_are_accepted(run: Run) -> None:
    """A body of exactly the largest size, and a thousand rows."""
    running = run("model")
    body = json.dumps(flat_matrix(GOOD)).encode()
    padded = body + b" " * (MAX_BYTES - len(body))

    assert running.send(INFER, padded).status_code == 200
    assert running.send(INFER, gzip.compress(padded), **{"Content-Encoding": "gzip"}).is_success
    assert running.send("/invocations", {"inputs": values([GOOD[0]] * MAX_ROWS)}).is_success


def test_the_infer_answer_is_the_protocols(run: Run) -> None:
    """Model, version, the request's id, and two tensors; or those that are requested."""
    running = run("model")
    document = flat_matrix(GOOD) | {"id": "42", "parameters": {"binary_data_output": True}}
    answer = running.send(INFER, document).json()
    requested = [{"name": "prediction_id"}]
    part = running.send(INFER, flat_matrix(GOOD) | {"outputs": requested}).json()

    assert [*answer] == ["model_name", "model_version", "id", "outputs"]
    assert answer["model_name"] == "made-up"
    assert answer["model_version"] == running.service.manifest.version
    assert answer["id"] == "42"
    described = [(each["name"], each["shape"], each["datatype"]) for each in answer["outputs"]]
    assert described == [("y", [2], "FP64"), ("prediction_id", [2], "BYTES")]
    assert "id" not in part
    assert [each["name"] for each in part["outputs"]] == ["prediction_id"]
    for each in answer["outputs"][1]["data"] + part["outputs"][0]["data"]:
        label = running.send("/feedback", {"prediction_id": each, "actual": 1})
        assert label.json()["accepted"] == 1


def test_integer_tensors_are_accepted(run: Run) -> None:
    """And floating-point ones for whole-number features; types may differ between tensors."""
    inputs = [
        tensor("a", [1], [1], "INT32"),
        tensor("b (%)", [1], [2], "FP32"),
        tensor("c", [1], [3.0], "INT64"),
    ]
    running = run("model")
    expected = running.send("/predict", dict(zip(NAMES, (1, 2, 3), strict=True))).json()["y"]

    assert predictions(running.send(INFER, {"inputs": inputs})) == [expected]


def test_the_versions_path_is_the_same(run: Run) -> None:
    """The running version is there, by its name; another one is not."""
    running = run("model")
    version = running.service.manifest.version
    base = "/v2/models/made-up"
    for path in ("", "/ready"):
        with_version = running.get(f"{base}/versions/{version}{path}")
        assert with_version.json() == running.get(f"{base}{path}").json()
        assert with_version.status_code == 200

    answer = running.send(f"{base}/versions/{version}/infer", flat_matrix(GOOD))
    assert predictions(answer) == predictions(running.send(INFER, flat_matrix(GOOD)))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v2/models/x", "There is no model x"),
        ("/v2/models/x/versions/7", "There is no version 7 of model x"),
        ("/v2/models/made-up/versions/7", "There is no version 7 of model made-up"),
    ],
)
def test_an_unknown_model_is_not_found(run: Run, path: str, message: str) -> None:
    """404 in the protocol's form, and nothing is counted as a rejected row."""
    running = run("model")
    answers = [
        running.get(path),
        running.get(f"{path}/ready"),
        running.send(f"{path}/infer", flat_matrix(GOOD)),
    ]

    assert [each.status_code for each in answers] == [404] * 3
    assert {error(each) for each in answers} == {message}
    assert total(running.samples(), "model_rows_rejected_total") == 0
    assert total(running.samples(), "model_predictions_total") == 0


def test_metadata_describes_the_tensors(run: Run) -> None:
    """INT64 for whole numbers, FP64 for what may be NaN."""
    running = run("model")
    metadata = running.get("/v2/models/made-up").json()

    assert metadata["name"] == "made-up"
    assert metadata["versions"] == [running.service.manifest.version]
    assert metadata["platform"] == "HistGradientBoostingRegressor"
    assert [(each["name"], each["datatype"]) for each in metadata["inputs"]] == [
        ("a", "FP64"),
        ("b (%)", "FP64"),
        ("c", "INT64"),
    ]
    assert [each["name"] for each in metadata["outputs"]] == ["y", "prediction_id"]
    assert running.get("/v2/health/live").json() == {"live": True}
    assert running.get("/v2/health/ready").json() == {"ready": True}
    assert running.get("/v2").json().keys() == {"name", "version", "extensions"}


def test_mlflow_is_answered_as_by_its_server(run: Run) -> None:
    """`predictions`, with ids beside them that feedback accepts; an empty line for a ping."""
    running = run("model")
    answer = running.send("/invocations", {"dataframe_records": GOOD}).json()

    assert [*answer] == ["predictions", "prediction_ids", "model_version"]
    assert running.get("/ping").text == "\n"
    assert running.get("/version").text == running.service.manifest.version
    for each in answer["prediction_ids"]:
        label = running.send("/feedback", {"prediction_id": each, "actual": 1})
        assert label.json()["accepted"] == 1


def test_mlflow_parameters_and_index_are_ignored(run: Run) -> None:
    """The index of a data frame, and MLflow's parameters; they are no fields of a row."""
    running = run("model")
    split = {"index": [7, 8], "columns": NAMES, "data": values(GOOD)}
    answer = running.send("/invocations", {"dataframe_split": split, "params": {"x": 1}})

    assert answer.status_code == 200
    assert total(running.samples(), "model_input_rejected_total") == 0


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("flat matrix", {"error": "Internal Server Error"}),
        ("split", {"error_code": "INTERNAL_ERROR", "message": "Internal Server Error"}),
    ],
)
def test_a_failure_has_the_protocols_form(
    run: Run, monkeypatch: pytest.MonkeyPatch, form: str, body: Json
) -> None:
    """500, without a word about the inside."""
    running = run("model")
    path, encode = FORMS[form]

    def fail(_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(running.service.predictor, "predict_batch", fail)
    answer = running.send(path, encode(GOOD))

    assert answer.status_code == 500
    assert answer.json() == body


@pytest.mark.parametrize("form", ["by feature", "by column", "split", "inputs"])
def test_a_long_undeclared_name_takes_no_memory(run: Run, form: str) -> None:
    """A name that stands once in the body is not repeated for each row."""
    running = run("model")
    path, encode = FORMS[form]
    name = "n" * (200 if path == INFER else 50_000)
    rows = [{name: 0, **GOOD[0]}] * 100
    longest = []
    decode = running.service.inputs.decode_batch

    def measured(body: bytes) -> Any:  # noqa: ANN401
        longest.append(len(body))
        return decode(body)

    object.__setattr__(running.service.inputs, "decode_batch", measured)

    assert running.send(path, encode(rows)).status_code == 200
    assert max(longest) < 10_000
    assert total(running.samples(), "model_input_rejected_total", field="_other") == 100


def test_head_works_where_get_does(run: Run) -> None:
    """With the same status and the same headers."""
    running = run("model")
    for path in (
        *("/", "/healthz", "/healthcheck", "/readyz", "/docs", "/openapi.json"),
        *("/v2", "/v2/health/live", "/v2/health/ready", "/ping", "/version"),
        *("/v2/models/made-up", "/v2/models/made-up/ready"),
    ):
        get, head = running.get(path), running.get(path, "HEAD")

        assert (head.status_code, get.status_code) == (200, 200)
        assert head.headers == get.headers
