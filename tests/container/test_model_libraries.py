"""An image that MODEL_LIBRARIES gave LightGBM, which needs a library that slim images lack."""

from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from bundle.build import bundle_fitted
from bundle.checks import Recipe
from bundle.manifest import Feature, Quantity
from tests.support.docker import HARDENED, METRICS_TMPFS, container, docker, url
from tests.support.libraries import library
from tests.support.wait import eventually
from tools import ROOT

IMAGE = "ml-monitoring/model:test-lightgbm"
FEATURES = ["area", "rooms", "age"]

pytestmark = pytest.mark.timeout(900)  # the image is built


def test_a_model_of_lightgbm_is_served(tmp_path: Path) -> None:
    """It predicts in the container what it predicts here, to the last bit."""
    build = [
        "--quiet",
        "--file",
        str(ROOT / "services" / "Dockerfile"),
        "--target",
        "model",
        "--tag",
        IMAGE,
    ]
    docker("build", *build, "--build-arg", "MODEL_LIBRARIES=lightgbm", str(ROOT))
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(5, 1, (700, 3)), columns=FEATURES)
    frame["price"] = frame.sum(axis=1) + random.normal(0, 0.1, 700)
    train, held_out = frame[:500], frame[500:]
    regressor = library("lightgbm").LGBMRegressor(n_estimators=20, verbose=-1)
    estimator = regressor.fit(train[FEATURES], train["price"])
    features = [Feature(name=name, description="a number") for name in FEATURES]
    recipe = Recipe("prices", Quantity(name="price", description="a number"), features)
    bundle = tmp_path / "bundle"
    bundle_fitted(estimator, train, held_out, recipe, bundle)
    bundle.chmod(0o755)

    served = container(IMAGE, 8000, **HARDENED).with_env("MODEL_BUNDLE", "/mnt/bundle")
    served.tmpfs.update(METRICS_TMPFS)
    with served.with_volume_mapping(str(bundle), "/mnt/bundle", "ro") as started:
        ready = url(started, 8000, "/readyz")
        eventually(lambda: httpx.get(ready).is_success, "ready")
        rows = held_out[FEATURES].head(20)
        answers = [
            httpx.post(url(started, 8000, "/predict"), json=row).raise_for_status().json()
            for row in rows.to_dict("records")
        ]

    assert [answer["price"] for answer in answers] == estimator.predict(rows).tolist()
