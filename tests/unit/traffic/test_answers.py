"""The answers that count as failures."""

import pytest

from tests.support.locust import made_up_rows, seeded
from traffic.answers import complaint
from traffic.scenarios import Action, feedback, health, predict

[ROW] = made_up_rows(1)
PREDICT = predict("quality")(ROW, seeded())
HEALTH = health(ROW, seeded())
FEEDBACK = feedback([{"prediction_id": "a", "actual": 5.0}])
BAD = Action("bad_value", "POST", "/predict", b"{}", 422)
REJECTED = "unexpected_answer: labels were rejected"
NOT_FINITE = "unexpected_answer: quality is not a finite number"


@pytest.mark.parametrize(
    ("action", "status", "body"),
    [
        (PREDICT, 200, b'{"quality": 5.5, "prediction_id": "a"}'),
        (PREDICT, 200, b'{"quality": 5}'),
        (HEALTH, 200, b"anything"),
        (BAD, 422, b'{"detail": []}'),
        (BAD, 422, None),
        (FEEDBACK, 200, b'{"accepted": 1, "rejected": 0}'),
    ],
)
def test_an_expected_answer_is_no_failure(action: Action, status: int, body: bytes | None) -> None:
    """The expected status is correct, even if it rejects an invalid request."""
    assert complaint(action, status, body) is None


@pytest.mark.parametrize(
    ("action", "status", "body", "expected"),
    [
        (PREDICT, 0, None, "unreachable: no answer"),
        (PREDICT, 503, b"", "unexpected_status: 503 instead of 200"),
        (BAD, 200, b'{"quality": 5.5}', "unexpected_status: 200 instead of 422"),
        (PREDICT, 200, b"", NOT_FINITE),
        (PREDICT, 200, b"\xff", NOT_FINITE),
        (PREDICT, 200, b"[5.5]", NOT_FINITE),
        (PREDICT, 200, b'{"grade": 5.5}', NOT_FINITE),
        (PREDICT, 200, b'{"quality": "5.5"}', NOT_FINITE),
        (PREDICT, 200, b'{"quality": true}', NOT_FINITE),
        (PREDICT, 200, b'{"quality": NaN}', NOT_FINITE),
        (PREDICT, 200, b'{"quality": 1e999}', NOT_FINITE),
        (FEEDBACK, 200, b"", REJECTED),
        (
            FEEDBACK,
            200,
            b'{"accepted": 1, "rejected": 1}',
            REJECTED,
        ),
    ],
)
def test_an_unexpected_answer_is_a_failure(
    action: Action, status: int, body: bytes | None, expected: str
) -> None:
    """The complaint names the status, or the lack of a finite prediction."""
    assert expected == complaint(action, status, body)
