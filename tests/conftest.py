"""Marks every test with its tier, which is the directory of its file."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bundle.manifest import Manifest

TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier."""
    for item in items:
        item.add_marker(item.path.relative_to(TESTS).parts[0])


@pytest.fixture(scope="session")
def example_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the example's bundle once for all tests, which only read it."""
    from example import train  # noqa: PLC0415 imports pandas, which few tests need

    directory = tmp_path_factory.mktemp("bundle") / "example"
    train(directory)
    return directory


@pytest.fixture(scope="session")
def example(example_bundle: Path) -> "Manifest":
    """Return the manifest of the example's bundle."""
    from bundle.load import load_manifest  # noqa: PLC0415 likewise

    return load_manifest(example_bundle)
