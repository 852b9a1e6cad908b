"""Rows become numbers: categories are indices, and what is not known has a number of its own."""

import numpy as np
import pytest

from bundle.encode import Encoder
from bundle.manifest import Feature

NUMBERS = (Feature(name="x", description=""), Feature(name="y", description="", type="integer"))
SIZE = Feature(name="size", description="", type="category", categories=("small", "large"))
GRADE = Feature(name="grade", description="", type="category", categories=(3, 1), nullable=True)
FLAG = Feature(name="flag", description="", type="boolean", nullable=True)


def test_rows_of_numbers_are_their_own_codes() -> None:
    """No value changes, and a missing one stays NaN."""
    codes = Encoder(NUMBERS).codes([(1.5, 2), (np.nan, -3)])

    np.testing.assert_array_equal(codes, [[1.5, 2], [np.nan, -3]])
    assert codes.dtype == np.float64


def test_categories_are_indices() -> None:
    """A category is its place in the list, an unseen one the list's length, a missing one NaN."""
    rows = [("small", 3, True), ("large", 1, False), ("huge", 2, np.nan), ("small", None, True)]

    np.testing.assert_array_equal(
        Encoder((SIZE, GRADE, FLAG)).codes(rows),
        [[0, 0, 1], [1, 1, 0], [2, 2, np.nan], [0, np.nan, 1]],
    )


def test_a_number_is_the_same_category_in_each_notation() -> None:
    """JSON's 3 and 3.0 are one value, and text is never a number."""
    codes = Encoder((GRADE,)).codes([(3,), (3.0,), ("3",)])

    assert codes.ravel().tolist() == [0, 0, 2]


@pytest.mark.parametrize("features", [NUMBERS, (SIZE, GRADE, FLAG)])
def test_no_rows_have_no_codes(features: tuple[Feature, ...]) -> None:
    """The number of columns is that of the features even then."""
    assert Encoder(features).codes([]).shape == (0, len(features))
