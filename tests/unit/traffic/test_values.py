"""Rows of every type: read from a bundle's CSV file, shifted, and spoiled."""

import json
from pathlib import Path

import pytest

from bundle.manifest import Manifest as BundleManifest
from serving.inputs import Inputs, InvalidInputError
from tests.support.bundles import CLASSES, TYPED_FEATURES, make_classification
from tests.support.locust import seeded
from traffic.answers import complaint
from traffic.client import Client, Plan
from traffic.drift import Drift
from traffic.errors import TrafficError
from traffic.manifest import Manifest, read_manifest
from traffic.rows import Populations, Row, read_rows, shifted
from traffic.scenarios import SCENARIOS, predict
from traffic.settings import Settings
from traffic.values import Value, shift_class

BUNDLE: BundleManifest = make_classification()
NAMES = [feature.name for feature in TYPED_FEATURES]
FEATURES: dict[str, Value] = dict(
    zip(NAMES, (1.5, 4, True, 'sky "blue"', 3, "2026-01-01T00:00:00+00:00", 0.5), strict=True)
)
CELLS = ["1.5", "4.0", "true", '"sky ""blue"""', "3.0", "2026-01-01T00:00:00Z", "0.5"]


@pytest.fixture(name="manifest")
def _manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "bundle.json").write_text(BUNDLE.model_dump_json(), "utf-8")
    return read_manifest(tmp_path)


def write(manifest: Manifest, *lines: list[str]) -> Path:
    """Write a CSV file of rows beside the bundle."""
    path = manifest.path.with_name("rows.csv")
    path.write_text("\n".join(",".join(line) for line in ([*NAMES, "kind"], *lines)), "utf-8")
    return path


def test_cells_become_values_of_json(manifest: Manifest) -> None:
    """Each in the type that the service accepts, and the label as one of the classes."""
    (row,) = read_rows(write(manifest, [*CELLS, "spam"]), manifest)

    assert row == Row(FEATURES, "spam")
    assert repr(row.features["zone"]) == "3"
    inputs = Inputs(BUNDLE, lambda _: None)
    assert inputs.decode_row(json.dumps(row.features).encode())[3:5] == ('sky "blue"', 3)


def test_empty_cells_are_missing_values(manifest: Manifest) -> None:
    """Of every type; without a label there is none to send."""
    cells = ["", "4", "", "", "1", "", "0.5", ""]
    (row,) = read_rows(write(manifest, cells), manifest)

    assert [*row.features.values()] == [None, 4, None, None, 1, None, 0.5]
    assert row.actual is None


@pytest.mark.parametrize(
    ("place", "cell", "message"),
    [
        (2, "maybe", "new is 'maybe', not true or false"),
        (4, "green", "zone is 'green', not a number"),
        (5, "yesterday", "built is 'yesterday', not a time in ISO 8601"),
        (7, "maybe", "kind is 'maybe', not one of the classes"),
    ],
)
def test_a_cell_of_another_type_is_reported(
    manifest: Manifest, place: int, cell: str, message: str
) -> None:
    """With file, line and column."""
    cells = [*CELLS, "ham"]
    cells[place] = cell

    with pytest.raises(TrafficError, match=f"line 2: {message}"):
        read_rows(write(manifest, cells), manifest)


def test_every_type_can_be_shifted(manifest: Manifest) -> None:
    """The shifted row is accepted; missing values stay missing."""
    sigma = {feature.name: feature.sigma for feature in manifest.features}
    moved = shifted(Row(FEATURES, None), manifest.features)

    assert moved.features["size"] == 1.5 + sigma["size"]
    assert moved.features["new"] is False
    assert (moved.features["color"], moved.features["zone"]) == ("πράσινο", 1)
    assert str(moved.features["built"]) > "2026-01-01T00:00:00+00:00"
    Inputs(BUNDLE, lambda _: None).decode_row(json.dumps(moved.features).encode())
    nothing = Row(dict.fromkeys(NAMES), None)
    assert shifted(nothing, manifest.features) == nothing


def test_a_shifted_label_is_another_class(manifest: Manifest) -> None:
    """So many places further, beginning again after the last one."""
    assert [shift_class(manifest, each, 1) for each in CLASSES] == [*CLASSES[1:], CLASSES[0]]
    assert [shift_class(manifest, each, 0) for each in CLASSES] == [*CLASSES]


@pytest.mark.parametrize("scenario", ["steady", "malformed"])
def test_requests_are_answered_as_expected(manifest: Manifest, scenario: str) -> None:
    """What a scenario calls wrong is rejected by the service's inputs, and nothing else."""
    inputs, rng = Inputs(BUNDLE, lambda _: None), seeded()
    row = Row(FEATURES, "ham")
    for make in SCENARIOS[scenario](manifest):
        for _ in range(30):
            action = make(row, rng)
            if action.path != "/predict" or action.method != "POST" or action.status == 413:
                continue
            try:
                inputs.decode_row(action.body)
                status = 200
            except InvalidInputError:
                status = 422
            assert status == action.status, (action.name, action.body)


@pytest.mark.parametrize(("value", "is_right"), [("spam", True), ("eggs", False), (1, False)])
def test_an_answer_has_one_of_the_classes(
    manifest: Manifest,
    value: object,
    is_right: bool,  # noqa: FBT001
) -> None:
    """Anything else is a failure of the load test."""
    action = predict(manifest.target, manifest.classes)(Row(FEATURES, "ham"), seeded())
    complained = complaint(action, 200, json.dumps({"kind": value}).encode())

    expected = "unexpected_answer: kind is not one of the classes"
    assert complained == (None if is_right else expected)


def test_labels_are_sent_back_as_classes(manifest: Manifest) -> None:
    """The true class of the row, moved by the shift."""
    settings = Settings(label_share=1.0, label_delay_seconds=0.0, label_shift=1.0)
    rows = [Row(FEATURES, "ham")]
    plan = Plan(
        settings,
        manifest,
        SCENARIOS["steady"](manifest),
        Populations(rows, rows),
        Drift("off", 1.0, clock=lambda: 0.0),
    )
    client = Client(plan, 0, 0)
    action = predict(manifest.target, manifest.classes)(rows[0], seeded())
    answer = json.dumps({"kind": "ham", "prediction_id": "a"}).encode()

    assert client.answered(action, 200, answer, 0.0) is None
    sent = json.loads(client.next(1.0).body)
    assert sent == [{"prediction_id": "a", "actual": "spam"}]
