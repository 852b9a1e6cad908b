"""Checks the answers of the service."""

import json
import math

from traffic.scenarios import FEEDBACK, Action

# Every complaint begins with one of these, which is the `reason` of the exported failure.
UNREACHABLE = "unreachable"
UNEXPECTED_STATUS = "unexpected_status"
UNEXPECTED_ANSWER = "unexpected_answer"


def complaint(action: Action, status: int, body: bytes | None) -> str | None:
    """Return why this answer is a failure, or None if it is as expected. Status 0 means no answer.

    The text contains nothing that varies except the status, because locust stores each distinct
    text.
    """
    if status == 0:
        return f"{UNREACHABLE}: no answer"
    if status != action.status:
        return f"{UNEXPECTED_STATUS}: {status} instead of {action.status}"
    if action.target:
        value = decoded(body).get(action.target)
        if action.classes and value not in action.classes:
            return f"{UNEXPECTED_ANSWER}: {action.target} is not one of the classes"
        if not action.classes and not _is_finite_number(value):
            return f"{UNEXPECTED_ANSWER}: {action.target} is not a finite number"
    # A list is answered with 200 if at least one of its labels is accepted.
    if action.path == FEEDBACK and decoded(body).get("rejected") != 0:
        return f"{UNEXPECTED_ANSWER}: labels were rejected"
    return None


def decoded(body: bytes | None) -> dict[str, object]:
    """Return the JSON object in a body, or an empty one if there is none."""
    try:
        answer = json.loads(body or b"")
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _is_finite_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
