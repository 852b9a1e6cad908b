"""The counts of mixed traffic equal those of a slow reference, which counts one value at a time.

`./task bench counts` does the same with 100,000 requests.
"""

from bench.reference import differences, expected, growth
from bench.traffic import mixed, send
from bundle.manifest import Manifest
from tests.service.conftest import StartModel
from tests.support.example import Row
from tests.support.model import select

REQUESTS = 3_000


def test_counts_of_several_workers_are_exact(
    start_model: StartModel,
    example: Manifest,
    held_out_inputs: list[Row],
    drifted_inputs: list[Row],
) -> None:
    """Every series is exact for valid rows, batches, invalid values and unknown fields."""
    inputs = [*held_out_inputs, *drifted_inputs[: len(held_out_inputs)]]
    with start_model(MODEL_WORKERS="3") as model:
        before = model.scrape()
        answers = send(model.url, [*mixed(REQUESTS, inputs)])
        samples = growth(model.scrape(), before)

    statuses = {each.status for each in answers}
    rejected = [each for each in answers if each.sent.faults]
    calls = sum(select(samples, "model_inference_seconds_count").values())
    assert statuses == {200, 422}
    assert [each.status for each in rejected] == [422] * len(rejected)
    assert not differences(samples, expected(example, answers))
    assert 0 < calls <= REQUESTS - len(rejected)
