"""One simulated client: its labels and its pace."""

import json
from functools import partial

import pytest

from tests.support.locust import MANIFEST, made_up_plan, seeded
from traffic.client import Client, Pace
from traffic.labels import BATCH, BATCH_SECONDS, Labels
from traffic.scenarios import Action
from traffic.values import Value, shift_class

ANSWER = b'{"score": 5.5, "prediction_id": "a"}'


def _labels(share: float = 1.0, delay: float = 60.0, shift: float = 0.0) -> Labels:
    return Labels(share, delay, partial(shift_class, MANIFEST, by=shift), seeded(1))


def test_a_label_is_sent_after_its_delay() -> None:
    """It is due only once."""
    labels = _labels(delay=60)
    labels.add("a", 5.0, now=10)

    assert labels.due(69.9) == []
    assert labels.due(70) == [{"prediction_id": "a", "actual": 5.0}]
    assert labels.due(100) == []


def test_labels_are_sent_in_batches() -> None:
    """Labels that become due soon after a batch wait for the next one."""
    labels = _labels(delay=0)
    labels.add("a", 5.0, now=0)
    labels.due(0)
    labels.add("b", 6.0, now=1)
    labels.add("c", 7.0, now=2)

    assert labels.due(BATCH_SECONDS - 0.1) == []
    assert [label["prediction_id"] for label in labels.due(BATCH_SECONDS)] == ["b", "c"]


def test_a_batch_has_at_most_the_labels_of_one_request() -> None:
    """More labels are sent in several requests."""
    labels = _labels(delay=0)
    for number in range(BATCH + 1):
        labels.add(str(number), 5.0, now=0)

    assert len(labels.due(0)) == BATCH
    assert len(labels.due(BATCH_SECONDS)) == 1


def test_the_number_of_pending_labels_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are too many, the newest are dropped and the oldest are sent."""
    monkeypatch.setattr("traffic.labels.MAX_PENDING", 2)
    labels = _labels(delay=0)
    for prediction_id in "abc":
        labels.add(prediction_id, 5.0, now=0)

    assert [label["prediction_id"] for label in labels.due(0)] == ["a", "b"]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_labels_is_sent(share: float) -> None:
    """The number of 1,000 labels is within four standard deviations of the share."""
    labels = _labels(share=share, delay=0)
    for number in range(1_000):
        labels.add(str(number), 5.0, now=0)

    assert abs(len(labels.due(0)) - 1_000 * share) <= 4 * (1_000 * share * (1 - share)) ** 0.5


def test_the_shift_is_added_to_the_true_value() -> None:
    """A label is the true score plus the shift."""
    labels = _labels(delay=0, shift=-1.5)
    labels.add("a", 5.0, now=0)

    assert labels.due(0)[0]["actual"] == 3.5


def _answer_all(client: Client, until: int) -> list[Action]:
    """Return one action per second, each with the expected answer."""
    actions = []
    for second in range(until):
        actions.append(client.next(second))
        client.answered(actions[-1], actions[-1].status, ANSWER, second)
    return actions


def test_labels_do_not_change_other_requests() -> None:
    """A client sends the same other requests with and without labels."""
    plan = made_up_plan(label_share=0.5, label_delay_seconds=3)
    with_labels = _answer_all(Client(plan, 0, 0), 60)
    others = [action for action in with_labels if action.name != "feedback"]

    assert len(others) < 60
    assert others == _answer_all(Client(made_up_plan(), 0, 0), 60)[: len(others)]


def test_a_label_is_the_true_value_of_its_row() -> None:
    """Without a delay, the first label is the true value of the first prediction."""
    actions = _answer_all(Client(made_up_plan(label_share=1, label_delay_seconds=0), 0, 0), 20)
    scores = [action.actual for action in actions if action.name == "predict"]
    labels = next(json.loads(action.body) for action in actions if action.name == "feedback")

    assert labels == [{"prediction_id": "a", "actual": scores[0]}]


def test_a_prediction_without_an_id_is_a_failure_if_labels_are_sent() -> None:
    """A label needs the prediction_id."""
    client = Client(made_up_plan(label_share=1), 0, 0)
    action = next(action for action in iter(lambda: client.next(0), None) if action.actual)

    wrong = client.answered(action, 200, b'{"score": 5.5}', 0)
    assert wrong == "unexpected_answer: no prediction_id"


def test_a_client_follows_a_switch_immediately() -> None:
    """The next request after a switch has a row of the other population."""
    plan = made_up_plan()
    client = Client(plan, 0, 0)

    def true_values() -> set[Value]:
        actions = (client.next(0.0) for _ in range(50))
        return {action.actual for action in actions if action.name == "predict"}

    usual = {row.actual for row in plan.populations.usual}
    drifted = {row.actual for row in plan.populations.drifted}
    assert true_values() <= usual
    plan.drift.switch("drifted")
    assert true_values() <= drifted
    plan.drift.switch("off")
    assert true_values() <= usual


def test_the_pace_is_steady() -> None:
    """Requests are due one period apart, whatever the duration of their answers."""
    pace = Pace(rate=2, phase=0.5, start=10)

    assert pace.wait(10) == 0.25
    assert pace.wait(10.35) == pytest.approx(0.4)
    assert pace.wait(11.2) == pytest.approx(0.05)


def test_a_slow_answer_causes_no_burst() -> None:
    """A late request is sent at once, and the next one a full period later."""
    pace = Pace(rate=2, phase=0, start=0)
    pace.wait(0)

    assert pace.wait(3) == 0
    assert pace.wait(3) == 0.5


def test_a_rate_of_zero_never_waits() -> None:
    """Requests are sent as fast as answers arrive."""
    pace = Pace(rate=0, phase=0.9, start=0)

    assert [pace.wait(now) for now in (0, 1, 1)] == [0, 0, 0]
