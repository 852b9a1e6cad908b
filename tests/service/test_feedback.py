"""Any worker of any instance accepts labels at any later time, and Prometheus has the error."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest

from bundle.arrays import Floats
from bundle.manifest import Manifest
from serving.prediction_id import Signer
from tests.service.conftest import MINUTE_SECONDS, StartModel
from tests.support.accuracy import accuracy
from tests.support.example import TARGET, Row, without_target
from tests.support.model import Model, by_label, select, total
from tests.support.prometheus import RULES, Prometheus, hurried, running_prometheus
from tests.support.wait import eventually

KEY, NEXT_KEY, FOREIGN_KEY = "first-key-" * 4, "next-key-" * 4, "foreign-key-" * 4
WORKERS = 3
Label = dict[str, str | float]


@pytest.fixture(name="model", scope="module")
def _model(start_model: StartModel) -> Iterator[Model]:
    with start_model(
        MODEL_WORKERS=str(WORKERS), MODEL_PREDICTION_KEYS=KEY, MODEL_LOG_LEVEL="debug"
    ) as model:
        yield model


def predict(model: Model, rows: Sequence[Row]) -> tuple[list[Label], Floats]:
    """Return the labels of rows and the errors of their predictions (prediction minus truth)."""
    inputs = [without_target(row) for row in rows]
    answer = httpx.post(f"{model.url}/predict/batch", json={"instances": inputs})
    predictions = answer.raise_for_status().json()["predictions"]
    labels: list[Label] = [
        {"prediction_id": each["prediction_id"], "actual": row[TARGET]}
        for each, row in zip(predictions, rows, strict=True)
    ]
    errors = [each[TARGET] - row[TARGET] for each, row in zip(predictions, rows, strict=True)]
    return labels, np.array(errors)


def send(model: Model, labels: object) -> httpx.Response:
    """Send labels on a new connection, which any of the workers may accept."""
    return httpx.post(f"{model.url}/feedback", json=labels)


def chunks(labels: list[Label], size: int) -> Iterator[list[Label]]:
    """Yield labels in lists of at most `size`."""
    for start in range(0, len(labels), size):
        yield labels[start : start + size]


def reasons(response: httpx.Response) -> list[str | None]:
    """Return the reason of each label's rejection, or None."""
    return [each.get("reason") for each in response.json()["results"]]


def test_sums_of_all_workers_equal_numpy(model: Model, held_out: list[Row]) -> None:
    """MAE, RMSE and bias from one scrape are exact, whichever worker got which label."""
    before = model.scrape()
    labels, errors = predict(model, held_out)
    for part in chunks(labels, 10):
        assert send(model, part).raise_for_status().json()["accepted"] == len(part)
    after = model.scrape()

    def added(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    rows = added("model_feedback_total", age="1h")
    signed = [added("model_feedback_error_sum_total", sign=sign) for sign in ("pos", "neg")]
    assert rows == len(held_out)
    assert added("model_feedback_absolute_error_sum_total") / rows == pytest.approx(
        np.abs(errors).mean(), rel=1e-9
    )
    assert np.sqrt(added("model_feedback_squared_error_sum_total") / rows) == pytest.approx(
        np.sqrt((errors**2).mean()), rel=1e-9
    )
    assert (signed[0] - signed[1]) / rows == pytest.approx(errors.mean(), rel=1e-9)
    assert added("model_feedback_quartic_error_sum_total") == pytest.approx(
        (errors**4).sum(), rel=1e-9
    )
    assert 0 <= added("model_feedback_delay_seconds_sum_total") / rows < 600


def test_a_label_is_accepted_once_by_all_workers(model: Model, held_out: list[Row]) -> None:
    """Whichever worker made the prediction, and whichever a copy of its label reaches."""
    [label], _ = predict(model, held_out[:1])
    answers = [reason for _ in range(50) for reason in reasons(send(model, label))]

    assert answers == [None] + ["duplicate"] * 49


def test_each_label_has_its_own_result(model: Model, held_out: list[Row]) -> None:
    """Partial success is 200 with the results; if no label is accepted it is 422."""
    [good, other], _ = predict(model, held_out[:2])
    sent = [good, good, {**other, "actual": 99}, {**other, "prediction_id": "x"}, "text", other]

    answer = send(model, sent)

    assert answer.status_code == 200
    assert reasons(answer) == [None, "duplicate", "malformed", "unknown", "malformed", None]
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (2, 4)
    nothing = send(model, sent[2:5])
    assert nothing.status_code == 422
    assert nothing.json()["accepted"] == 0


def test_a_body_without_labels_is_one_rejected_label(model: Model) -> None:
    """It is not counted as a rejected row."""
    before = model.scrape()
    bodies = [b"", b"{", b'{"actual": NaN}', b"5", b"[]", b"[" + b"1," * 1000 + b"1]"]
    statuses = [httpx.post(f"{model.url}/feedback", content=body).status_code for body in bodies]
    too_large = httpx.post(f"{model.url}/feedback", content=b" " * 2_000_001)
    after = model.scrape()

    assert statuses == [422] * len(bodies)
    assert too_large.status_code == 413
    assert select(after, "model_input_rejected_total") == select(
        before, "model_input_rejected_total"
    )
    rejected = by_label(after, "model_feedback_rejected_total", "reason")
    earlier = by_label(before, "model_feedback_rejected_total", "reason")
    assert rejected["malformed"] - earlier["malformed"] == len(bodies) + 1


def test_1000_labels_are_accepted_and_1001_are_rejected(model: Model, held_out: list[Row]) -> None:
    """The limit is that of /predict/batch."""
    labels, _ = predict(model, (held_out * 4)[:1000])

    assert send(model, [*labels, labels[0]]).status_code == 422
    assert send(model, labels).json()["accepted"] == 1000


def test_another_instance_and_a_later_start_accept_labels(
    model: Model, start_model: StartModel, held_out: list[Row], example: Manifest
) -> None:
    """They need the key, which may follow a newer one, whose ids are unknown elsewhere."""
    labels, errors = predict(model, held_out[:20])
    with start_model(MODEL_PREDICTION_KEYS=f"{NEXT_KEY}, {KEY}") as other:
        assert reasons(send(other, labels)) == [None] * 20
        newer, _ = predict(other, held_out[:3])
        samples = other.scrape()
    with start_model(MODEL_PREDICTION_KEYS=f"{NEXT_KEY},{KEY}") as restarted:
        assert reasons(send(restarted, labels + newer)) == [None] * 23

    assert reasons(send(model, newer)) == ["unknown"] * 3
    assert total(samples, "model_feedback_total", version=example.version) == 20
    absolute = total(samples, "model_feedback_absolute_error_sum_total")
    assert absolute == pytest.approx(np.abs(errors).sum(), rel=1e-9)


def test_an_id_of_another_key_is_unknown(
    model: Model, start_model: StartModel, held_out: list[Row]
) -> None:
    """Labels cannot be sent to a service without the key that signed their ids."""
    labels, _ = predict(model, held_out[:5])

    with start_model(MODEL_PREDICTION_KEYS=FOREIGN_KEY) as foreign:
        assert reasons(send(foreign, labels)) == ["unknown"] * 5
        samples = foreign.scrape()

    assert by_label(samples, "model_feedback_rejected_total", "reason")["unknown"] == 5
    assert total(samples, "model_feedback_total") == 0


def test_a_start_without_a_key_warns(start_model: StartModel, held_out: list[Row]) -> None:
    """All workers share a random key, and ids are unknown after a restart."""
    with start_model() as one:
        labels, _ = predict(one, held_out[:30])
        for part in chunks(labels, 1):
            assert reasons(send(one, part)) == [None]
        rest, _ = predict(one, held_out[:2])
        warnings = [line for line in one.program.output().splitlines() if "WARNING" in line]
    with start_model() as restarted:
        assert reasons(send(restarted, rest)) == ["unknown"] * 2

    assert len(warnings) == 1
    assert "labels sent after a restart will be rejected" in warnings[0]


def test_keys_and_ids_do_not_leak(model: Model, held_out: list[Row]) -> None:
    """They are neither in the log at any level, nor in metrics or answers."""
    [label], _ = predict(model, held_out[:1])
    id_ = str(label["prediction_id"])
    answers = [send(model, each).text for each in (label, label, {**label, "actual": KEY}, id_)]
    pages = [httpx.get(f"{model.url}{path}").text for path in ("/", "/openapi.json", "/readyz")]
    texts = [model.program.output(), httpx.get(model.metrics_url).text, *answers, *pages]

    assert "ready" in texts[0]
    for secret in (KEY, id_):
        assert [text for text in texts if secret in text] == []


def test_recorded_errors_equal_numpy(
    start_model: StartModel, held_out: list[Row], example: Manifest, tmp_path: Path
) -> None:
    """The rules record each version, including one that no longer runs."""
    old = Signer([KEY.encode()], example.name, "gone")
    now = time.time()
    old_errors = np.random.default_rng(2).normal(0.5, 1, 40).clip(-3, 3)
    old_labels: list[Label] = [
        {"prediction_id": old.sign(5 + error, now - 7200), "actual": 5}
        for error in old_errors.tolist()
    ]
    with (
        start_model(MODEL_PREDICTION_KEYS=KEY) as model,
        running_prometheus(
            tmp_path,
            {"model": [model.metrics_url]},
            hurried(RULES, tmp_path / "rules", MINUTE_SECONDS),
        ) as prometheus,
    ):
        a_minute_ago = f"up offset {2 * MINUTE_SECONDS}s == 1 and on () model:feedback_rows"
        eventually(lambda: prometheus.query(a_minute_ago), "the model was scraped a minute ago")
        labels, errors = predict(model, held_out)
        for part in chunks([*labels, *old_labels], 40):
            send(model, part).raise_for_status()

        _verify(prometheus, example.version, errors)
        _verify(prometheus, "gone", old_errors)
        _verify_excess(prometheus, example, errors)
        predicted = errors + np.array([row[TARGET] for row in held_out])
        _verify_expected_error(prometheus, example, predicted, errors)


def _verify(prometheus: Prometheus, version: str, errors: Floats) -> None:
    _verify_series(prometheus, "model:feedback_rows{}", version, float(len(errors)))

    def are_recorded() -> bool:
        judged = accuracy(errors, _design_effect(prometheus, version, errors))
        return all(
            _is_recorded(prometheus, _selector(name), version, value)
            for name, value in judged.items()
        )

    eventually(are_recorded, f"the errors of {version} are NumPy's")


def _selector(name: str) -> str:
    metric, _, bound = name.partition(" ")
    return f"model:{metric}" + (f'{{bound="{bound}"}}' if bound else "{}")


def _design_effect(prometheus: Prometheus, version: str, errors: Floats) -> float:
    """Return how much less the labels weigh than as many independent ones, as it is recorded."""
    effective = 'model:effective_feedback_rows{window="1h"}'
    return len(errors) / prometheus.by_label(effective, "version")[version]


def _verify_excess(prometheus: Prometheus, example: Manifest, errors: Floats) -> None:
    promised, size = example.validation, np.abs(errors)
    spread = np.sqrt((promised.cv_rmse**2 - promised.cv_mae**2) / example.rows)
    labels = len(errors) / _design_effect(prometheus, example.version, errors)
    near_end = size.mean() - 3.29 * np.hypot(size.std() / np.sqrt(labels - 1), spread)
    excess = near_end / promised.cv_mae - 1

    _verify_series(prometheus, "model:mae_excess{}", example.version, excess)
    # The validation error of the other version is unknown.
    of_hour = prometheus.by_label('model:mae_excess{window="1h"}', "version")
    assert of_hour.keys() == {example.version}


def _verify_expected_error(
    prometheus: Prometheus, example: Manifest, predicted: Floats, errors: Floats
) -> None:
    reference = example.reference[-1]
    bins = np.searchsorted(reference.edges, predicted, side="right")
    expected = np.mean([reference.bins[bin_].absolute_error or np.nan for bin_ in bins])

    _verify_series(prometheus, "model:expected_mae{}", example.version, expected)
    coverage = len(errors) / len(predicted)
    _verify_series(prometheus, "model:feedback_coverage{}", example.version, coverage)


def _verify_series(
    prometheus: Prometheus, selector: str, version: str, expected: float | np.floating
) -> None:
    eventually(
        lambda: _is_recorded(prometheus, selector, version, float(expected)),
        f"{selector} of {version} is {expected}",
    )


def _is_recorded(prometheus: Prometheus, selector: str, version: str, expected: float) -> bool:
    of_hour = selector.replace("{", '{window="1h",')
    value = prometheus.by_label(of_hour, "version").get(version, np.nan)
    return bool(abs(value - expected) < 1e-9)
