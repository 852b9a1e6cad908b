"""What one worker serves with."""

from dataclasses import dataclass

from bundle.manifest import Manifest
from serving.answers import Answers
from serving.feedback import Feedback
from serving.inputs import Inputs
from serving.metrics import ModelMetrics
from serving.predictor import Predictor


@dataclass(frozen=True)
class Service:
    """The parts that routes put together; none of them knows HTTP."""

    manifest: Manifest
    inputs: Inputs
    predictor: Predictor
    answers: Answers
    feedback: Feedback
    metrics: ModelMetrics
    max_body_bytes: int
