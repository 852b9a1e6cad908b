"""The id of a classification holds its class and probabilities, within 120 characters."""

import numpy as np
import pytest

from bundle.arrays import Floats
from bundle.manifest import Value
from serving.classified import EPSILON, Packer, fingerprint, unpack
from serving.prediction_id import Signer

NOW = 1_800_000_000.0
VERSION = "0123456789ab"


def classes(number: int) -> tuple[Value, ...]:
    """Return so many classes."""
    return tuple(f"class {at}" for at in range(number))


def through(number: int, outputs: Floats, version: str = VERSION) -> Floats:
    """Return what ids hold of probabilities (n, number)."""
    signer = Signer([b"k" * 32], "made-up", version)
    packer = Packer(classes(number), signer.room)
    codes = outputs.argmax(axis=1)
    held = []
    for code, content in zip(codes, packer.pack(codes, outputs), strict=True):
        id_ = signer.sign_class(content, NOW)
        assert len(id_) <= 120
        read = signer.read(id_)
        assert (read.version, read.time) == (version, int(NOW))
        classified = read.prediction
        assert not isinstance(classified, float)
        assert classified.code == code
        assert classified.fingerprint == fingerprint(classes(number))
        held.append(classified.probabilities)
    return np.array(held)


def test_two_probabilities_are_exact() -> None:
    """To the last bit, as the score and the log loss need them."""
    outputs = np.random.default_rng(0).beta(0.1, 0.1, 1000)
    held = through(2, np.column_stack([1 - outputs, outputs]))

    assert held[:, 1].tolist() == outputs.tolist()


@pytest.mark.parametrize(("number", "version"), [(3, VERSION), (5, VERSION), (3, "v")])
def test_a_few_probabilities_are_exact(number: int, version: str) -> None:
    """To the last bit, also a probability of 0."""
    outputs = np.random.default_rng(1).dirichlet(np.full(number, 0.2), 500)
    outputs[0] = np.eye(number)[0]

    assert through(number, outputs, version).tolist() == outputs.tolist()


@pytest.mark.parametrize(("number", "version"), [(6, VERSION), (10, VERSION), (3, "v" * 40)])
def test_some_more_probabilities_are_rounded_to_float32(number: int, version: str) -> None:
    """Which log loss does not show before its seventh digit."""
    outputs = np.random.default_rng(1).dirichlet(np.full(number, 0.2), 500)

    assert through(number, outputs, version) == pytest.approx(outputs, rel=6e-8, abs=1e-40)


@pytest.mark.parametrize(("number", "version"), [(11, VERSION), (21, VERSION), (7, "v" * 40)])
def test_probabilities_that_fit_are_rounded_by_the_stated_error(number: int, version: str) -> None:
    """Log loss by at most 0.0003, each label by itself; a probability of 0 stays the smallest."""
    outputs = np.random.default_rng(1).dirichlet(np.full(number, 0.2), 500)
    outputs[0] = np.eye(number)[0]
    held = through(number, outputs, version)

    exact = -np.log(np.maximum(outputs, EPSILON))
    assert np.abs(-np.log(held) - exact).max() <= 0.0003
    assert np.abs(held - outputs).max() <= 0.0003


@pytest.mark.parametrize(("number", "version", "kept"), [(22, VERSION, 10), (1000, "v" * 40, 3)])
def test_of_many_classes_the_most_likely_are_kept(number: int, version: str, kept: int) -> None:
    """The others share what is left."""
    outputs = np.random.default_rng(2).dirichlet(np.full(number, 0.05), 200)
    held = through(number, outputs, version)
    likely = np.argsort(-outputs, axis=1)[:, :kept]

    difference = np.take_along_axis(held - outputs, likely, axis=1)
    assert np.abs(difference).max() <= 0.0003
    assert held.sum(axis=1) == pytest.approx(1, abs=0.002)


def test_without_probabilities_an_id_holds_the_class_alone() -> None:
    """It is as short as that of a regression, or nearly."""
    signer = Signer([b"k" * 32], "made-up", VERSION)
    (content,) = Packer(classes(5), signer.room).pack(np.array([4]), None)

    assert unpack(content) == (4, fingerprint(classes(5)), None)
    assert len(signer.sign_class(content, NOW)) < 80


def test_ids_of_both_tasks_are_read() -> None:
    """An id that a regression signed earlier is still valid."""
    signer = Signer([b"k" * 32], "made-up", VERSION)

    assert signer.read(signer.sign(5.5, NOW)).prediction == 5.5


@pytest.mark.parametrize("other", [("a", "b"), ("b", "a", "c"), (1, 2, 3), (True, False)])
def test_other_lists_of_classes_have_other_fingerprints(other: tuple[Value, ...]) -> None:
    """A code means nothing without the list that it is an index into."""
    assert fingerprint(other) != fingerprint(("a", "b", "c"))
