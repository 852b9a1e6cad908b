"""Categories and classes as text, whatever type they have here: pure functions.

The text is what JSON would write. An integer category is 3.0 in an event and 3 among the
categories, and both are "3".
"""

from collections.abc import Callable, Sequence

from publisher.events import Value
from publisher.header import Category, to_text


def category_converter(categories: Sequence[Category]) -> Callable[[Value], str | None]:
    """Return what makes text of categories, which may be others than training saw."""
    texts = {each: to_text(each) for each in categories}
    whole = all(type(each) is int for each in categories)

    def convert(value: Value) -> str | None:
        if value is None:
            return None
        if (known := texts.get(value)) is not None:
            return known
        is_whole = whole and isinstance(value, float) and value.is_integer()
        return to_text(int(value) if is_whole else value)

    return convert


def probability_name(of_class: Category) -> str:
    """Return the name of the column with the probability of a class."""
    return f"probability_{to_text(of_class)}"
