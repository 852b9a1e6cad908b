"""schemathesis tries the documented API with all of its checks, and finds no fault."""

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.conftest import StartModel
from tests.support.client_environment import fuzz_environment
from tests.support.model import Model, select

# Cases of each operation; `./task fuzz` tries more.
CASES = "1000" if os.environ.get("FUZZ_INPUTS") else "20"
SECONDS = 3_600
# One check has only these routes: that a body is accepted if its schema is. The others have rules
# that a schema cannot state, such as a signed id, or a tensor's shape that fits its data.
STATED_BY_SCHEMA = "^/predict"
ACCEPTANCE = "positive_data_acceptance"


@pytest.fixture(name="tried", scope="module")
def _tried(start_model: StartModel) -> Iterator[Model]:
    with start_model() as model:
        yield model


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize(
    "options",
    [
        ("--include-path-regex", STATED_BY_SCHEMA),
        ("--exclude-path-regex", STATED_BY_SCHEMA, "--exclude-checks", ACCEPTANCE),
    ],
    ids=["predict", "others"],
)
def test_the_api_does_what_its_document_says(
    tried: Model, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Every status, header and body conforms; what breaks the schema is rejected; no 5xx."""
    command: list[str | Path] = [
        *(fuzz_environment() / "bin" / "schemathesis", "run", f"{tried.url}/openapi.json"),
        *("--checks", "all", "--max-examples", CASES, "--seed", "1", "--no-color"),
        *("--generation-database", "none", *options),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False
    )

    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    by_status: Counter[str] = Counter()
    for labels, count in select(tried.scrape(), "http_requests_total").items():
        by_status[dict(labels)["status"]] += int(count)
    assert by_status["2xx"]
    assert by_status["4xx"]
    assert not by_status["5xx"]
