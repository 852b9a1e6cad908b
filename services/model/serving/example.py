"""The row that the documentation shows, and its prediction."""

from base64 import urlsafe_b64encode
from hashlib import blake2b

import numpy as np

from bundle.load import Estimator
from bundle.manifest import Feature, Manifest, Reference
from serving.events import Prediction

# As many as an id has with a version of 12 characters.
_ID_BYTES = 49


def example_row(manifest: Manifest) -> dict[str, float]:
    """Return each feature's example or, where the bundle has none, its mean in training."""
    pairs = zip(manifest.features, manifest.reference, strict=False)
    return {feature.name: _example(feature, reference) for feature, reference in pairs}


def predict_example(manifest: Manifest, estimator: Estimator) -> Prediction:
    """Return the prediction of the example row. Its id looks like one, and no key has signed it.

    Anybody can send the documentation's examples: they must not label a prediction.
    """
    row = tuple(example_row(manifest).values())
    value = float(np.asarray(estimator.predict(np.array([row], dtype=np.float64)))[0])
    digest = blake2b(manifest.version.encode(), digest_size=_ID_BYTES).digest()
    return Prediction(urlsafe_b64encode(digest).rstrip(b"=").decode(), 0.0, row, value)


def _example(feature: Feature, reference: Reference) -> float:
    if feature.example is not None:
        return feature.example
    return round(reference.mean) if feature.type == "integer" else reference.mean
