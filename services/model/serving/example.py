"""The row that the documentation shows, and its prediction."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from hashlib import blake2b

from bundle.encode import Encoder
from bundle.estimator import Model
from bundle.load import BundleError
from bundle.manifest import Feature, Manifest, Reference, Value
from serving.events import Prediction
from serving.outcomes import create_outcomes
from serving.values import Row

# As many as an id has with a version of 12 characters.
_ID_BYTES = 49


def example_row(manifest: Manifest) -> dict[str, Value]:
    """Return each feature's example or, where the bundle has none, its mean in training."""
    references = {each.name: each for each in manifest.reference}
    return {each.name: _example(each, references.get(each.name)) for each in manifest.features}


class Unsigned:
    """Gives the example's prediction an id that looks like one, and that no key has signed.

    Anybody can send the documentation's examples: they must not label a prediction.
    """

    room = 40

    def __init__(self, version: str) -> None:
        digest = blake2b(version.encode(), digest_size=_ID_BYTES).digest()
        self._id = urlsafe_b64encode(digest).rstrip(b"=").decode()

    def sign(self, _prediction: float, _now: float, _mark: bytes) -> str:
        """Return the id."""
        return self._id

    def sign_class(self, _content: bytes, _now: float, _mark: bytes) -> str:
        """Return the id."""
        return self._id


def predict_example(manifest: Manifest, model: Model, row: Row) -> Prediction:
    """Return the prediction of the example row. Raises BundleError if there is none."""
    codes = Encoder(manifest.features).codes([row])
    outputs = model.predict([row], codes)
    outcomes = create_outcomes(manifest, Unsigned(manifest.version))
    (prediction,) = outcomes.predictions(outputs, codes, [row], 0.0)
    if prediction is None:
        raise BundleError("the model has no finite prediction for the example row")
    return prediction


def _example(feature: Feature, reference: Reference | None) -> Value:
    if feature.example is not None:
        return feature.example
    if feature.type == "category":
        return feature.categories[0]
    mean = 0.0 if reference is None else reference.mean
    if feature.type == "boolean":
        return mean >= 0.5  # noqa: PLR2004 the more frequent value
    if feature.type == "datetime":
        return datetime.fromtimestamp(round(mean), UTC).isoformat()
    return round(mean) if feature.type == "integer" else mean
