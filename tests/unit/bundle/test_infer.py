"""What is inferred from the values of a column, and what is rejected with a remedy."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bundle.checks import UnmonitorableError
from bundle.encode import Encoder
from bundle.estimator import FrameBuilder
from bundle.frames import cells, dtypes, matrix
from bundle.infer import MAX_CATEGORIES, Column, infer, unit
from bundle.manifest import FeatureType


def column(values: Any) -> pd.DataFrame:  # noqa: ANN401
    """Return a table of one column."""
    return pd.DataFrame({"x": values})


COLUMNS: dict[str, tuple[Any, FeatureType, bool]] = {
    "floats": ([0.5, 1, 2], "number", False),
    "whole floats": ([1.0, 2.0, 3.0], "number", False),
    "integers": ([1, 2, 3], "integer", False),
    "integers with gaps": ([1, None, 3], "integer", True),
    "floats with gaps": ([0.5, None, 3], "number", True),
    "nullable integers": (pd.array([1, None, 3], dtype="Int64"), "integer", True),
    "booleans": ([True, False, True], "boolean", False),
    "booleans with gaps": (np.array([True, None, False], dtype=object), "boolean", True),
    "text": (["a", "b", "a"], "category", False),
    "text with gaps": (["a", None, "a"], "category", True),
    "pandas categories": (pd.Categorical([3, 1, 3]), "category", False),
    "dates": (["2024-01-01", "2024-02-29", "2023-12-31"], "datetime", False),
    "times": (["2024-01-01T10:00:00Z", "2024-02-29T00:00:00+02:00", None], "datetime", True),
    "datetimes": (pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"]), "datetime", False),
    "no such date": (["2024-13-01", "2024-13-01", "2024-01-03"], "category", False),
}


@pytest.mark.parametrize(("values", "kind", "nullable"), COLUMNS.values(), ids=COLUMNS)
def test_the_type_is_that_of_the_values(values: Any, kind: FeatureType, nullable: bool) -> None:  # noqa: ANN401, FBT001
    """A column without gaps is not nullable."""
    found = infer(Column("x"), column(values))

    assert (found.type, found.nullable) == (kind, nullable)
    assert (found.minimum, found.maximum) == (None, None)


@pytest.mark.parametrize("values", [values for values, *_ in COLUMNS.values()], ids=COLUMNS)
def test_rows_reach_the_estimator_as_they_were_in_the_table(values: Any) -> None:  # noqa: ANN401
    """Cells as JSON carries them become the column again, with its type; and its codes."""
    frame = column(values)
    own = [infer(Column("x"), frame)]
    rows = cells(frame, own)
    rebuilt = FrameBuilder(own, dtypes(frame))(rows)

    if own[0].type == "datetime":
        expected = pd.to_datetime(frame["x"], utc=True, format="ISO8601")
        assert str(rebuilt["x"].dtype) == "datetime64[ns, UTC]"
        assert [*rebuilt["x"].dropna()] == [*expected.dropna()]
    else:
        assert rebuilt["x"].dtype.name == frame["x"].dtype.name
        assert [*rebuilt["x"].astype(object).dropna()] == [*frame["x"].astype(object).dropna()]
    assert rebuilt["x"].isna().tolist() == frame["x"].isna().tolist()
    np.testing.assert_array_equal(Encoder(own).codes(rows), matrix(frame, own))


def test_a_time_is_in_seconds_since_1970() -> None:
    """Its time zone is respected; without one it is in UTC."""
    frame = column(["1970-01-01T00:00:01", "1970-01-01T02:00:00+02:00", "1970-01-02"])

    assert matrix(frame, [infer(Column("x"), frame)]).ravel().tolist() == [1, 0, 86_400]


def test_categories_are_in_order_of_their_counts() -> None:
    """Equal counts are in order of their values, so that the manifest has the same bytes."""
    found = infer(Column("x"), column(["b", "c", "a", "c", "b", "d"]))

    assert found.categories == ("b", "c", "a", "d")


def test_what_is_known_is_not_inferred() -> None:
    """A type and whether values may be missing can be given; numbers can be categories."""
    found = infer(Column("x", "category", nullable=True, unseen="reject"), column([3, 1, 3]))

    assert (found.type, found.categories, found.nullable) == ("category", (3, 1), True)
    assert found.unseen == "reject"


def test_missing_values_of_held_out_rows_count() -> None:
    """A gap that only they have makes the feature nullable."""
    assert infer(Column("x"), column([1.5, 2]), column([1.5, None])).nullable


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([None, None], "has no value: leave it out with `ignore: \\[x\\]`"),
        ([f"id{i}" for i in range(300)], "a different text in every row, like an identifier"),
        (
            [f"v{i % (MAX_CATEGORIES + 1)}" for i in range(3000)],
            f"{MAX_CATEGORIES + 1} categories, more than {MAX_CATEGORIES}: group",
        ),
        (["1", "2", "n/a?", "4"], r"has 3 numbers and 1 texts \('n/a\?'\): correct them"),
        ([1, "a", 2], "has values of several types \\(int, str\\): make them one type"),
        ([[1], [2]], "has values of type list: only numbers"),
    ],
    ids=["empty", "identifier", "free text", "numbers and text", "mixed", "lists"],
)
def test_a_column_that_is_no_feature_is_rejected(values: Any, message: str) -> None:  # noqa: ANN401
    """The message names the column, the reason and the remedy."""
    with pytest.raises(UnmonitorableError, match=f"column x .*{message}"):
        infer(Column("x"), column(values))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sepal length (cm)", "cm"),
        ("mass [kg]", "kg"),
        ("bill_length_mm", "mm"),
        ("humidity_pct", "%"),
        ("price", ""),
        ("min", ""),
        ("income (in the last year)", ""),
    ],
)
def test_the_unit_is_read_from_the_name(name: str, expected: str) -> None:
    """A suffix that is a common unit, or a short one in brackets."""
    assert unit(name) == expected
