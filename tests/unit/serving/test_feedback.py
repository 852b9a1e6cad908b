"""Labels are accepted or rejected one by one, and their sums equal NumPy's."""

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest

from bundle.manifest import Quantity
from serving.feedback import Feedback, Rejection, create_truths, decode_labels
from serving.inputs import InvalidInputError
from serving.metrics.feedback import AGES, MAX_ERROR_SIGMAS, REJECTIONS
from serving.prediction_id import Signer
from serving.seen_ids import SeenIds
from tests.support.bundles import make_manifest, read_metrics
from tests.support.model import Samples, by_label, select, total

KEY, FOREIGN = b"k" * 32, b"f" * 32
NOW = 1_800_000_000.0
HOUR, DAY = 3600, 86_400
MAX_AGE = 365 * DAY
TARGET = Quantity(name="quality", description="a grade", minimum=0, maximum=10)
VERSION = make_manifest().version


class Receiver:
    """The feedback of one worker, and its counts."""

    def __init__(self, directory: Path, target: Quantity = TARGET) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.manifest = make_manifest(target=target)
        self.signer = Signer([KEY], self.manifest.name, VERSION)
        truths = create_truths(self.manifest, directory)
        self.feedback = Feedback(truths, self.signer, MAX_AGE, seen=SeenIds(directory))

    def accept(self, item: object, now: float = NOW) -> str | None:
        """Return why a label is rejected, or None."""
        rejection = self.feedback.accept(item, now)
        return rejection.reason if isinstance(rejection, Rejection) else None

    def label(
        self, actual: object, prediction: float = 5.0, made: float = NOW
    ) -> dict[str, object]:
        """Return a label of one of this worker's predictions."""
        return {"prediction_id": self.signer.sign(prediction, made), "actual": actual}

    def samples(self) -> Samples:
        """Return the samples of a scrape."""
        return read_metrics(self.directory)


@pytest.fixture(name="worker")
def _worker(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path)


def test_every_series_starts_at_zero(worker: Receiver) -> None:
    """Otherwise Prometheus would miss the first label of each age."""
    samples = worker.samples()

    assert by_label(samples, "model_feedback_total", "age") == dict.fromkeys(AGES, 0)
    assert by_label(samples, "model_feedback_rejected_total", "reason") == dict.fromkeys(
        REJECTIONS, 0
    )
    bins = len(make_manifest().reference[-1].bins)
    assert len(samples) == len(REJECTIONS) + 7 * len(AGES) + 2 * bins
    assert {dict(key[1])["version"] for key in samples} == {VERSION}


def test_sums_equal_numpy(worker: Receiver) -> None:
    """For random labels of every age, each counter equals the sum that NumPy computes."""
    rng = np.random.default_rng(1)
    actual, predicted = rng.uniform(0, 10, 400), rng.uniform(3, 9, 400)
    delay = np.floor(10 ** rng.uniform(0, 7, 400))
    for truth, prediction, seconds in np.stack([actual, predicted, delay], axis=1).tolist():
        assert worker.accept(worker.label(truth, prediction, NOW - seconds)) is None

    samples = worker.samples()
    error = predicted - actual
    age = np.digitize(delay, list(AGES.values())[:-1], right=True)
    for index, name in enumerate(AGES):
        mine = age == index
        expected = {
            "": mine.sum(),
            "_absolute_error_sum": np.abs(error[mine]).sum(),
            "_squared_error_sum": (error[mine] ** 2).sum(),
            "_quartic_error_sum": (error[mine] ** 4).sum(),
            "_delay_seconds_sum": delay[mine].sum(),
        }
        assert mine.sum() > 20
        for family, value in expected.items():
            counted = total(samples, f"model_feedback{family}_total", age=name)
            assert counted == pytest.approx(value, rel=1e-12)
        signs = by_label(samples, "model_feedback_error_sum_total", "sign", age=name)
        assert signs["pos"] == pytest.approx(error[mine & (error > 0)].sum(), rel=1e-12)
        assert signs["neg"] == pytest.approx(-error[mine & (error < 0)].sum(), rel=1e-12)


def test_labels_are_counted_by_the_bin_of_their_prediction(worker: Receiver) -> None:
    """Labels and absolute errors by bin equal those that NumPy counts."""
    reference = make_manifest().reference[-1]
    rng = np.random.default_rng(2)
    actual, predicted = rng.uniform(0, 10, 300), rng.uniform(3, 9, 300)
    predicted[: len(reference.edges)] = reference.edges
    for truth, prediction in np.stack([actual, predicted], axis=1).tolist():
        assert worker.accept(worker.label(truth, prediction, NOW)) is None

    samples = worker.samples()
    index = np.searchsorted(reference.edges, predicted, side="right")
    for place, each in enumerate(reference.bins):
        errors = np.abs(predicted - actual)[index == place]
        counted = total(samples, "model_feedback_bin_total", bin=each.bin)
        summed = total(samples, "model_feedback_bin_absolute_error_sum_total", bin=each.bin)
        assert counted == len(errors)
        assert summed == pytest.approx(errors.sum(), rel=1e-12)


@pytest.mark.parametrize(
    ("delay", "age"),
    [
        (-30, "1h"),  # the clock of another machine
        (0, "1h"),
        (HOUR, "1h"),
        (HOUR + 1, "1d"),
        (DAY, "1d"),
        (DAY + 1, "7d"),
        (7 * DAY, "7d"),
        (7 * DAY + 1, "older"),
        (MAX_AGE, "older"),
    ],
)
def test_age_classes_include_their_limit(worker: Receiver, delay: float, age: str) -> None:
    """The limits are an hour, a day and a week; a label from the future has no delay."""
    assert worker.accept(worker.label(5, made=NOW - delay)) is None

    samples = worker.samples()
    assert by_label(samples, "model_feedback_total", "age") == dict.fromkeys(AGES, 0) | {age: 1}
    assert total(samples, "model_feedback_delay_seconds_sum_total") == max(delay, 0)


def test_a_label_older_than_the_limit_is_expired(worker: Receiver) -> None:
    """The limit itself, MODEL_FEEDBACK_MAX_DAYS, is accepted."""
    assert worker.accept(worker.label(5, made=NOW - MAX_AGE)) is None
    assert worker.accept(worker.label(5, made=NOW - MAX_AGE - 1)) == "expired"


@pytest.mark.parametrize(
    "actual",
    ["5", None, True, [5], {"value": 5}, -0.001, 10.001, 10**400, -(10**400), math.inf, math.nan],
    ids=repr,
)
def test_a_value_that_is_no_number_in_range_is_malformed(worker: Receiver, actual: object) -> None:
    """Strings, booleans and numbers outside the target's range are rejected."""
    assert worker.accept(worker.label(actual)) == "malformed"


@pytest.mark.parametrize("actual", [0, 10, 5, 5.5, -0.0, 10.0])
def test_a_value_in_range_is_accepted(worker: Receiver, actual: float) -> None:
    """Both limits are included, and integers are accepted."""
    assert worker.accept(worker.label(actual)) is None


@pytest.mark.parametrize(
    "item",
    [None, 5, "text", [], {}, {"actual": 5}, {"prediction_id": 5, "actual": 5}],
    ids=repr,
)
def test_json_that_is_not_a_label_is_malformed(worker: Receiver, item: object) -> None:
    """Any JSON value without an id or without a true value is rejected."""
    assert worker.accept(item) == "malformed"


def test_additional_fields_of_a_label_are_ignored(worker: Receiver) -> None:
    """A missing true value is malformed, but a client may add fields of its own."""
    label = worker.label(5)

    assert worker.accept({"prediction_id": label["prediction_id"]}) == "malformed"
    assert worker.accept({**label, "note": "from the lab"}) is None


@pytest.mark.parametrize("text", ["", "x", "ä", "A" * 80, "A" * 100_000, "\x00", "a b", "=" * 80])
def test_a_text_that_is_no_id_is_unknown(worker: Receiver, text: str) -> None:
    """Any text that this service never returned is rejected."""
    assert worker.accept({"prediction_id": text, "actual": 5}) == "unknown"


def test_an_id_of_another_key_or_model_is_unknown(worker: Receiver) -> None:
    """Another model's id is unknown even if both models share a key."""
    for signer in (Signer([FOREIGN], "made-up", VERSION), Signer([KEY], "other", VERSION)):
        assert worker.accept({"prediction_id": signer.sign(5, NOW), "actual": 5}) == "unknown"


def test_a_duplicate_is_rejected(worker: Receiver) -> None:
    """The first label counts, even if the second has another value."""
    label = worker.label(4)

    assert worker.accept(label) is None
    assert worker.accept({**label, "actual": 9}) == "duplicate"
    assert total(worker.samples(), "model_feedback_total") == 1
    assert total(worker.samples(), "model_feedback_absolute_error_sum_total") == 1


def test_a_rejected_label_can_be_corrected(worker: Receiver) -> None:
    """Rejected labels are not remembered."""
    label = worker.label(11)

    assert worker.accept(label) == "malformed"
    assert worker.accept({**label, "actual": 10}) is None


def test_rejections_are_counted_by_reason(worker: Receiver) -> None:
    """Each rejection is counted under its reason."""
    worker.accept(worker.label(5, made=NOW - MAX_AGE - 1))
    for _ in range(2):
        worker.accept({"prediction_id": "?", "actual": 5})
    for _ in range(4):
        worker.accept(worker.label("5"))
    worker.feedback.reject_body()
    label = worker.label(5)
    for _ in range(4):
        worker.accept(label)

    counted = by_label(worker.samples(), "model_feedback_rejected_total", "reason")
    assert counted == {"expired": 1, "unknown": 2, "malformed": 5, "duplicate": 3}


@pytest.mark.parametrize("version", ["older-version", "rejected"])
def test_a_label_of_another_version_counts_for_that_version(worker: Receiver, version: str) -> None:
    """Any replica counts it, whatever the name of the version."""
    other = Signer([KEY], worker.manifest.name, version)
    worker.accept({"prediction_id": other.sign(7, NOW), "actual": 4})
    worker.accept(worker.label(5, prediction=6))
    worker.accept(worker.label("?"))

    samples = worker.samples()
    assert total(samples, "model_feedback_absolute_error_sum_total", version=version) == 3
    assert total(samples, "model_feedback_absolute_error_sum_total", version=VERSION) == 1
    assert len(select(samples, "model_feedback_total", version=version)) == len(AGES)
    assert total(samples, "model_feedback_rejected_total", version=VERSION) == 1


def test_a_replica_does_not_know_the_labels_of_another(tmp_path: Path) -> None:
    """Each has a metrics directory of its own; both accept the same label."""
    one, other = Receiver(tmp_path / "one"), Receiver(tmp_path / "other")
    label = one.label(4)

    assert other.accept(label) is None
    assert one.accept(label) is None


def test_workers_of_a_service_know_each_others_labels(tmp_path: Path) -> None:
    """The second one that gets a label rejects it."""
    one, other = Receiver(tmp_path), Receiver(tmp_path)
    label = one.label(4)

    assert other.accept(label) is None
    assert one.accept(label) == "duplicate"


@pytest.mark.parametrize("actual", [1.7e308, -1.7e308, 1e154, 10**300])
def test_an_absurd_label_is_clipped(tmp_path: Path, actual: float) -> None:
    """Sums remain finite and small enough for later labels to change them."""
    worker = Receiver(tmp_path, Quantity(name="target", description="unbounded"))
    limit = MAX_ERROR_SIGMAS * worker.manifest.reference[-1].sigma

    assert worker.accept(worker.label(actual)) is None
    before = total(worker.samples(), "model_feedback_quartic_error_sum_total")
    assert worker.accept(worker.label(4.0)) is None
    after = total(worker.samples(), "model_feedback_quartic_error_sum_total")

    assert before == pytest.approx(limit**4)
    assert after - before == pytest.approx(1, rel=1e-3)


def test_a_body_is_one_label_or_a_list() -> None:
    """The items are returned without validation."""
    assert decode_labels(b'{"actual": 5}') == [{"actual": 5}]
    assert decode_labels(b'[{"actual": 5}, 7, null]') == [{"actual": 5}, 7, None]
    assert len(decode_labels(json.dumps([1] * 1000).encode())) == 1000


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b'{"actual": NaN}', "malformed"),
        (b'{"actual": Infinity}', "malformed"),
        (b'{"actual": 1e999}', "malformed"),
        (b'{"actual": "\xff"}', "malformed"),
        (b"[" * 100_000, "malformed"),
        (b"null", "type"),
        (b"5", "type"),
        (b'"id"', "type"),
        (b"[]", "empty"),
        (json.dumps([1] * 1001).encode(), "too_many"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_body_without_labels_is_rejected(body: bytes, reason: str) -> None:
    """The error has the reason; NaN is not JSON."""
    with pytest.raises(InvalidInputError) as rejected:
        decode_labels(body)

    assert rejected.value.detail[0]["type"] == reason


def test_labels_are_not_logged(worker: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a key nor an id is logged at any level."""
    caplog.set_level(logging.DEBUG)

    for actual in (5, "?", 11):
        worker.accept(worker.label(actual))
    worker.accept({"prediction_id": "?", "actual": 5})

    assert caplog.records == []


def test_a_rejection_does_not_contain_the_sent_value(worker: Receiver) -> None:
    """Clients may log the message, so it names the fault without the value."""
    id_ = "secret-of-somebody"

    for item in ({"prediction_id": id_, "actual": 5}, {"prediction_id": id_, "actual": id_}):
        rejection = worker.feedback.accept(item, NOW)
        assert rejection is not None
        assert id_ not in rejection.message
