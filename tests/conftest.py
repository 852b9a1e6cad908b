"""The directory a test lies in is its tier, and the tier is its marker."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier."""
    for item in items:
        item.add_marker(item.path.relative_to(TESTS).parts[0])
