"""A classification at Fiddler, through its own client and the stand-in's checks of types."""

import asyncio
import csv
import importlib
import json
from collections.abc import Iterator
from importlib.util import find_spec
from math import nan
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from bundle.load import load_bundle
from bundle.manifest import Manifest, Value
from publisher.barrier import Barrier
from publisher.baseline import Baselines
from publisher.destination import Batch, Destination
from publisher.errors import RejectedError, StoppedError
from publisher.events import Event, Kind, ModelName, decoder
from publisher.metrics import Metrics
from publisher.peers import Peers
from publisher.settings import FiddlerSettings
from publisher.spool import LABEL, Segment, Spool
from serving.app import create_service
from serving.events import Label, Prediction
from serving.http.router import add_api
from serving.settings import Settings as ServiceSettings
from serving.spool_readers import place_reference
from tests.support.bundles import make_classification
from tests.support.grades import build_grades
from tests.support.spool import spool_of
from tools.fiddler_stand_in import ORGANISATION, TOKEN, Fiddler, running_fiddler
from tools.replay.compare import compare, report
from tools.replay.open import open_log
from tools.replay.predict import with_bundle

# Not imported here: fiddler_client.py first sets what the client reads when it is imported.
pytestmark = pytest.mark.skipif(
    find_spec("fiddler") is None,
    reason="Fiddler's client is missing: run ./task deps:publisher",
)

TWO = ("ham", "spam")
ROW = (nan, 2.0, True, 'sky "blue"', 3.0, 86_400.5, 0.25)


@pytest.fixture(name="server")
def _server() -> Iterator[Fiddler]:
    with running_fiddler() as server:
        yield server


class Export:
    """A spool of events and the destination that publishes it."""

    def __init__(self, directory: Path, server: Fiddler) -> None:
        self.server = server
        reader = Spool(directory, keep=True)
        self.metrics = Metrics(reader, Barrier(0.0, Peers()))
        (self.segment,) = reader.segments()
        self.baselines = Baselines(directory, self.metrics, 0.0)
        self.destination = destination(server, self.baselines)
        self.destination.register(self.segment.header)

    def publish(self, kind: Kind) -> None:
        """Publish the events of a kind."""
        self.destination.publish(batch(self.segment, kind))

    def model(self) -> dict[str, Any]:
        """Return the model that Fiddler has."""
        (found,) = self.server.store.models.values()
        return found

    def columns(self) -> dict[str, dict[str, Any]]:
        """Return the columns of Fiddler's model, without what they leave open."""
        return {
            each["name"]: {key: value for key, value in each.items() if value is not None}
            for each in self.model()["schema"]["columns"]
        }


def export_of(
    directory: Path, server: Fiddler, manifest: Manifest, *events: Prediction | Label
) -> Export:
    """Return the export of events, which are spooled first."""
    spool_of(directory, manifest, events)
    return Export(directory, server)


def destination(server: Fiddler, baselines: Baselines) -> Destination:
    """Return Fiddler as the publisher uses it."""
    settings = FiddlerSettings(
        fiddler_url=server.url, fiddler_org_id=ORGANISATION, fiddler_auth_token=SecretStr(TOKEN)
    )
    found = importlib.import_module("publisher.fiddler_client").Fiddler(settings, baselines)
    assert isinstance(found, Destination)
    return found


def batch(segment: Segment, kind: Kind) -> Batch:
    """Return all events of a kind."""
    decode = decoder(segment.header, kind)
    lines = [
        line
        for line in segment.path.read_bytes().splitlines()[1:]
        if line.startswith(LABEL) == (kind == "label")
    ]
    events: list[Event] = [*map(decode, lines)]
    model = ModelName(segment.header.model, segment.header.version)
    return Batch(model, kind, segment.header, events, lines)


def prediction(value: Value = "spam", *probabilities: float) -> Prediction:
    """Return the prediction of a typed row."""
    return Prediction("a", 0.0, ROW, value, probabilities or None)


def label(version: str, actual: Value) -> Label:
    """Return its label."""
    return Label("a", 1.0, version, actual)


def test_a_multiclass_model_has_an_output_for_each_class(tmp_path: Path, server: Fiddler) -> None:
    """Fiddler gets typed columns, the classes in the order of the outputs, and typed events."""
    manifest = make_classification()
    spooled = prediction("spam", 0.25, 0.5, 0.25), label(manifest.version, "ham")
    export = export_of(tmp_path, server, manifest, *spooled)

    export.publish("prediction")
    export.publish("label")

    model, columns = export.model(), export.columns()
    outputs = ["probability_ham", "probability_spam", 'probability_so-called "eggs"']
    assert model["task"] == "multiclass_classification"
    assert model["task_params"]["target_class_order"] == ["ham", "spam", 'so-called "eggs"']
    assert model["spec"]["outputs"] == outputs
    assert model["spec"]["decisions"] == ["predicted_kind"]
    assert model["spec"]["targets"] == ["kind"]
    assert {name: column["data_type"] for name, column in columns.items()} == {
        "size": "float",
        "rooms": "int",
        "new": "bool",
        "color": "category",
        "zone": "category",
        "built": "timestamp",
        "note": "float",
        "predicted_kind": "category",
        **dict.fromkeys(outputs, "float"),
        "kind": "category",
        "prediction_id": "str",
        "predicted_at": "timestamp",
    }
    assert columns["zone"]["categories"] == ["3", "1", "7"]
    assert "minimum" not in columns["built"]
    assert export.server.store.all_events() == {
        "a": {
            "size": None,
            "rooms": 2,
            "new": True,
            "color": 'sky "blue"',
            "zone": "3",
            "built": "1970-01-02T00:00:00.500000Z",
            "note": 0.25,
            "predicted_kind": "spam",
            **dict(zip(outputs, [0.25, 0.5, 0.25], strict=True)),
            "kind": "ham",
            "prediction_id": "a",
            "predicted_at": "1970-01-01T00:00:00.000000Z",
        }
    }


def test_a_binary_model_has_the_probability_of_its_second_class(
    tmp_path: Path, server: Fiddler
) -> None:
    """It is the positive one, which is predicted above one half."""
    export = export_of(tmp_path, server, make_classification(TWO), prediction("spam", 0.25, 0.75))

    export.publish("prediction")

    model = export.model()
    assert model["task"] == "binary_classification"
    assert model["task_params"]["target_class_order"] == ["ham", "spam"]
    assert model["task_params"]["binary_classification_threshold"] == 0.5
    assert model["spec"]["outputs"] == ["probability_spam"]
    assert export.server.store.all_events()["a"]["probability_spam"] == 0.75


@pytest.mark.parametrize("classes", [(False, True), (0, 1), (1, 2, 3), (0.5, 1.5)])
def test_classes_that_are_no_text_are_written_as_json(
    tmp_path: Path, server: Fiddler, classes: tuple[Value, ...]
) -> None:
    """Without probabilities the class itself is the output."""
    manifest = make_classification(classes, probabilities=False)
    spooled = prediction(classes[1]), label(manifest.version, classes[0])
    export = export_of(tmp_path, server, manifest, *spooled)

    export.publish("prediction")
    export.publish("label")

    texts = [str(each).lower() for each in classes]
    event = export.server.store.all_events()["a"]
    assert export.model()["spec"]["outputs"] == ["predicted_kind"]
    assert export.columns()["kind"]["categories"] == texts
    assert (event["predicted_kind"], event["kind"]) == (texts[1], texts[0])


def test_classes_that_are_the_same_text_stop_the_publisher(tmp_path: Path, server: Fiddler) -> None:
    """Fiddler could not tell them apart."""
    manifest = make_classification(("1", 1, "b"), probabilities=False)
    export = export_of(tmp_path, server, manifest, prediction("1"))

    with pytest.raises(StoppedError, match=r"^classes are not unique: 1, 1, b$"):
        export.publish("prediction")


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (prediction("jam", 0.25, 0.75), "^prediction: not one of the classes$"),
        (prediction("ham", 0.25), "^probabilities: not one for each of 2 classes$"),
        (prediction("ham"), "^probabilities: not one for each of 2 classes$"),
        (label("0123456789ab", 1), "^actual: not one of the classes$"),
    ],
)
def test_what_is_no_class_is_no_event(
    tmp_path: Path, server: Fiddler, event: Prediction | Label, message: str
) -> None:
    """It goes to quarantine; the message names the field and holds no value."""
    export = export_of(tmp_path, server, make_classification(TWO), event)

    with pytest.raises(ValueError, match=message):
        batch(export.segment, "label" if isinstance(event, Label) else "prediction")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (2, 1.0, "new is not true or false"),
        (5, 1e12, "built is not a time"),
        (5, "noon", "built is not a time"),
        (1, 2.5, "rooms is not an integer"),
    ],
)
def test_a_value_that_does_not_fit_its_column_is_rejected(
    tmp_path: Path, server: Fiddler, place: int, value: float | str, message: str
) -> None:
    """The message names the column, but not the value."""
    row = (*ROW[:place], value, *ROW[place + 1 :])
    manifest = make_classification(TWO)
    export = export_of(tmp_path, server, manifest, Prediction("a", 0.0, row, "ham", (0.75, 0.25)))

    with pytest.raises(RejectedError, match=f"^{message}$"):
        export.publish("prediction")


def test_an_unseen_category_is_sent_as_text(tmp_path: Path, server: Fiddler) -> None:
    """Fiddler counts it as a violation, and has its spelling."""
    row = (*ROW[:3], "blue", 9.0, *ROW[5:])
    manifest = make_classification(TWO)
    export = export_of(tmp_path, server, manifest, Prediction("a", 0.0, row, "ham", (0.75, 0.25)))

    export.publish("prediction")

    event = export.server.store.all_events()["a"]
    assert (event["color"], event["zone"]) == ("blue", "9")


# The client does not close the file that it uploads.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO")
def test_the_reference_rows_of_a_bundle_fit_fiddlers_columns(
    tmp_path: Path, server: Fiddler
) -> None:
    """The stand-in checks the type of every cell."""
    bundle, spool = tmp_path / "bundle", tmp_path / "spool"
    spool.mkdir()
    build_grades(bundle)
    manifest = load_bundle(bundle).manifest
    place_reference((spool,), bundle, manifest)
    row = (1.0, "boat", 3.0, True)
    event = Prediction("a", 0.0, row, 1, (0.5, 0.25, 0.25))
    export = export_of(spool, server, manifest, event)
    export.publish("prediction")

    for _ in range(3):
        export.destination.work()

    published = export.metrics.registry.get_sample_value("publisher_baseline_published")
    (content,) = next(iter(export.server.store.datasets.values())).values()
    rows = [*csv.DictReader(content.decode().splitlines())]
    assert published == 1
    assert len(rows) > 500
    assert {each["rating"] for each in rows} == {"1", "2", "3"}
    assert all(
        max("123", key=lambda grade: float(each[f"probability_{grade}"])) == each["predicted_grade"]
        for each in rows
    )


def ask(app: FastAPI, path: str, body: object) -> Any:  # noqa: ANN401 any JSON
    """Return the answer to a POST of JSON, which may have NaN."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            return await client.post(path, content=json.dumps(body).encode())

    return asyncio.run(send()).raise_for_status().json()


def test_what_is_served_is_exported_and_replayed(tmp_path: Path, server: Fiddler) -> None:
    """Rows of JSON, tensors and data frames fit Fiddler's columns, and replay without a change."""
    bundle, spool = tmp_path / "bundle", tmp_path / "spool"
    spool.mkdir()
    build_grades(bundle)
    key = SecretStr("k" * 32)
    settings = ServiceSettings(
        bundle=bundle, metrics_dir=tmp_path, prediction_keys=key, spool_dir=spool
    )
    app = FastAPI()
    service = create_service(settings)
    add_api(app, service)
    row = {"amount": None, "purpose": "boat", "rating": 3, "member": True}
    answers = [ask(app, "/predict", row)]
    answers += ask(app, "/predict/batch", {"instances": [row, row]})["predictions"]
    ask(app, "/invocations", {"dataframe_split": {"columns": [*row], "data": [[*row.values()]]}})
    types = {"amount": "FP64", "purpose": "BYTES", "rating": "FP32", "member": "FP64"}
    values = row | {"amount": nan, "rating": 3.0, "member": 1.0}
    tensors = [
        {"name": name, "shape": [1], "datatype": types[name], "data": [values[name]]}
        for name in types
    ]
    ask(app, "/v2/models/grades/infer", {"inputs": tensors})
    labels = [{"prediction_id": each["prediction_id"], "actual": 2} for each in answers]
    assert ask(app, "/feedback", labels)["accepted"] == 3
    export = Export(spool, server)

    export.publish("prediction")
    export.publish("label")

    events = [*server.store.all_events().values()]
    inputs = {"amount": None, "purpose": "boat", "rating": "3", "member": True}
    assert len(events) == 5
    assert all(event.items() >= inputs.items() for event in events)
    assert [event.get("grade") for event in events] == ["2", "2", "2", None, None]
    log = open_log([str(spool)])
    lines = [*report(log, compare(log, with_bundle(bundle), worst=0))]
    assert lines[1] == "different predictions: 0.0%"
    assert "labelled rows: 3" in lines
