"""Workers serve the bundle that the master pinned; a reload takes a new one or keeps the old."""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import joblib
import pytest
from sklearn.dummy import DummyRegressor

from bundle.publish import publish
from tests.support.bundles import edit_manifest
from tests.support.example import Row
from tests.support.model import Model, by_label, running_model, select, total
from tests.support.wait import eventually

FIRST, SECOND = "a" * 12, "b" * 12


def built(example_bundle: Path, directory: Path, version: str) -> Path:
    """Return a bundle of some version that was just built."""
    copied = Path(shutil.copytree(example_bundle, directory / f"built-{version}"))
    edit_manifest(copied, version=version)
    return copied


@pytest.fixture(name="name")
def _name(example_bundle: Path, tmp_path: Path) -> Path:
    """Return a name that stands for the first version."""
    publish(built(example_bundle, tmp_path, FIRST), tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(name="model")
def _model(name: Path, tmp_path: Path) -> Iterator[Model]:
    with running_model(name, tmp_path) as model:
        yield model


def versions(model: Model, row: Row) -> set[str]:
    """Return the versions that answer several new connections."""
    answers = [httpx.post(f"{model.url}/predict", json=row).json() for _ in range(10)]
    return {answer["model_version"] for answer in answers}


def reload(model: Model) -> str:
    """Let the service reload; return the outcome once all workers are replaced."""
    before, counted = model.pids(), outcomes(model)
    model.program.signal(signal.SIGHUP)
    for pid in before:
        model.wait_for_replacement(pid)
    ((outcome, _),) = set(outcomes(model).items()) - set(counted.items())
    return outcome


def outcomes(model: Model) -> dict[str, float]:
    """Return the number of reloads by outcome."""
    return dict(by_label(model.scrape(), "service_reloads_total", "outcome"))


def test_a_reload_takes_the_new_version(
    model: Model, name: Path, example_bundle: Path, tmp_path: Path, held_out_inputs: list[Row]
) -> None:
    """Facts follow; what was counted of the old version stays."""
    row = held_out_inputs[0]
    assert versions(model, row) == {FIRST}
    publish(built(example_bundle, tmp_path, SECOND), name)
    os.kill(min(model.pids()), signal.SIGKILL)
    eventually(lambda: len(model.pids()) == model.workers, "the worker is replaced")
    assert versions(model, row) == {FIRST}

    assert reload(model) == "taken"
    assert versions(model, row) == {SECOND}
    samples = model.scrape()
    assert select(samples, "model_info", version=SECOND)
    assert not select(samples, "model_info", version=FIRST)
    assert total(samples, "model_predictions_total", version=FIRST) == 20
    assert total(samples, "model_predictions_total", version=SECOND) == 10

    assert reload(model) == "unchanged"


def break_pickle(bundle: Path) -> None:
    """Leave half of the estimator."""
    (bundle / "trees.npy").write_bytes((bundle / "trees.npy").read_bytes()[:100])


@pytest.mark.parametrize("damage", ["corrupt", "removed"])
def test_a_damaged_bundle_does_not_stop_the_service(
    model: Model, name: Path, held_out_inputs: list[Row], damage: str
) -> None:
    """Workers that start later, and a reload, keep what the master has; the log says why."""
    if damage == "corrupt":
        break_pickle(name)
    else:
        shutil.rmtree(name.resolve())
    victim = min(model.pids())
    os.kill(victim, signal.SIGKILL)
    model.wait_for_replacement(victim)

    assert reload(model) == "kept"
    assert versions(model, held_out_inputs[0]) == {FIRST}
    kept = [line for line in model.program.output().splitlines() if "is kept" in line]
    reason = json.loads(kept[-1])["message"]
    assert ("trees.npy is corrupt" if damage == "corrupt" else "no bundle at") in reason


def test_a_bundle_that_loads_but_does_not_predict_is_not_taken(
    model: Model, name: Path, example_bundle: Path, tmp_path: Path, held_out_inputs: list[Row]
) -> None:
    """Such as an estimator that was not fitted: its workers would not start."""
    new = built(example_bundle, tmp_path, SECOND)
    joblib.dump(DummyRegressor(), new / "model.joblib")
    content = (new / "model.joblib").read_bytes()
    edit_manifest(new, files={"model.joblib": hashlib.sha256(content).hexdigest()})
    publish(new, name)

    assert reload(model) == "kept"
    assert versions(model, held_out_inputs[0]) == {FIRST}


def test_a_reload_replaces_every_worker_once(model: Model) -> None:
    """None of them starts twice."""
    before = model.pids()
    reload(model)
    started = model.program.output().count('"ready"')

    eventually(partial(lambda: not before & model.pids()), "others run")
    assert started == 2 * model.workers
