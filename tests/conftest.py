"""Marks every test with its tier, which is the directory of its file."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bundle.manifest import Manifest

TESTS = Path(__file__).parent
# The fastest tier runs first, so that most errors are reported within seconds.
TIERS = ("unit", "contract", "rules", "service", "container", "stack", "cluster")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the tier `cluster`."""
    parser.addoption("--context", help="kubectl's context of a cluster that the tests may use")


def pytest_configure() -> None:
    """Keep the file of the ./task that runs the tests from the commands that they start."""
    os.environ.pop("TASK_STATUS", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier, and run the tiers in order."""
    for item in items:
        item.add_marker(_tier(item))
    items.sort(key=lambda item: TIERS.index(_tier(item)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line for each reason of skips, however many tests it skips."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(each.longrepr[2].removeprefix("Skipped: ") for each in skipped)
    for reason, number in reasons.most_common():
        terminalreporter.write_line(f"skipped {number}: {reason}")


def _tier(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Restore the umask, which a command sets for its process: containers read our files."""
    before = os.umask(0)
    os.umask(before)
    yield
    os.umask(before)


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
