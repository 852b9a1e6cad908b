"""docs/metrics.md lists what the services export: no more, no less."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from bundle.manifest import Manifest
from publisher.barrier import Barrier
from publisher.metrics import Metrics
from publisher.parquet import Parquet
from publisher.peers import Peers
from publisher.spool import Spool
from serving.feedback import create_truths
from serving.metrics.bundle_facts import FactsCollector
from serving.metrics.predictions import ModelMetrics
from tests.support.bundles import make_classification, make_manifest, with_segment
from tests.support.locust import locust
from tests.support.model import running_model
from tests.support.wait import eventually
from tools import ROOT

PAGE = ROOT / "docs" / "metrics.md"

# What every model_* family carries; the page says so once.
MODEL_LABELS = {"model", "version"}
# Labels of a sample within its family, not of the family.
SAMPLE_LABELS = {"le", "quantile"}


class Family(NamedTuple):
    """A metric family as a table row describes it."""

    name: str
    type: str
    labels: frozenset[str]


def documented(job: str) -> list[Family]:
    """Return the families of the page whose names begin with one of the job's prefixes."""
    prefixes = {"model": ("model_", "http_", "service_")}.get(job, (f"{job}_",))
    return [each for each in rows(PAGE.read_text("utf-8")) if each.name.startswith(prefixes)]


def rows(page: str) -> Iterator[Family]:
    """Yield the table rows of four columns that start with a family's name."""
    for cells in re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]+) \| [^|]+ \|$", page, re.MULTILINE):
        name, type_, labels = cells
        own = set(re.findall(r"`(\w+)`", labels))
        yield Family(
            name, type_, frozenset(own | (MODEL_LABELS if name[:6] == "model_" else set()))
        )


def exported(text: str) -> list[Family]:
    """Return a page's own families, without the times at which counters were created."""
    families = {
        Family(
            f"{family.name}_total" if family.type == "counter" else family.name,
            family.type,
            frozenset(label for sample in family.samples for label in sample.labels)
            - SAMPLE_LABELS,
        )
        for family in text_string_to_metric_families(text)
    }
    return [
        family
        for family in families
        if not family.name.endswith("_created") and not family.name.startswith("process_")
    ]


@pytest.fixture(name="model_page", scope="module")
def _model_page(example_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the metrics of a running service that spools."""
    directory = tmp_path_factory.mktemp("model")
    with running_model(
        example_bundle, directory, MODEL_SPOOL_DIR=str(directory / "spool")
    ) as model:
        page = httpx.get(model.metrics_url).raise_for_status().text
    return page + "".join(
        _page(with_segment(manifest, feature), tmp_path_factory.mktemp(manifest.task))
        for manifest, feature in (
            (make_classification(("no", "yes")), "color"),
            (make_manifest(), "plain"),
        )
    )


def _page(manifest: Manifest, directory: Path) -> str:
    """Return the families of a model: those of its task, and of segments."""
    importance = manifest.features[0].model_copy(update={"importance": 0.5})
    manifest = manifest.model_copy(update={"features": (importance, *manifest.features[1:])})
    ModelMetrics(manifest, directory)
    create_truths(manifest, directory)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    registry.register(FactsCollector(manifest, "unknown", 0.0))
    return generate_latest(registry).decode()


@pytest.fixture(name="locust_page", scope="module")
def _locust_page(example_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the metrics of a running locust that sends nothing."""
    log = tmp_path_factory.mktemp("locust") / "log"
    with locust(log, example_bundle, host="http://127.0.0.1:9", headless=True, users=0) as client:

        def page() -> str:
            assert client.process.poll() is None, log.read_text()
            answer = httpx.get(f"http://127.0.0.1:{client.metrics_port}/metrics")
            return answer.raise_for_status().text

        return eventually(page, "locust exports its metrics", timeout=60)


@pytest.fixture(name="publisher_page", scope="module")
def _publisher_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the metrics of the log's publisher, which are those of Fiddler's and some more."""
    directory = tmp_path_factory.mktemp("publisher")
    metrics = Metrics(Spool(directory / "spool", keep=False), Barrier(0.0, Peers()))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREDICTION_LOG", str(directory / "log"))
        Parquet().measure(metrics.registry)
    return generate_latest(metrics.registry).decode()


@pytest.mark.parametrize("job", ["model", "locust", "publisher"])
def test_the_page_lists_exactly_what_a_job_exports(
    job: str, request: pytest.FixtureRequest
) -> None:
    """Every family is there once, with its type and its labels."""
    page: str = request.getfixturevalue(f"{job}_page")

    assert sorted(documented(job)) == sorted(exported(page))


def test_every_row_of_the_page_belongs_to_a_job() -> None:
    """No family escapes the comparison by its name."""
    compared = [each for job in ("model", "locust", "publisher") for each in documented(job)]

    assert sorted(compared) == sorted(rows(PAGE.read_text("utf-8")))
    assert len(compared) == PAGE.read_text("utf-8").count("\n| `") - _recorded_rows()


def _recorded_rows() -> int:
    """Return the rows of the last table, which lists recorded series in two columns."""
    recorded = PAGE.read_text("utf-8").partition("## Recorded series")[2]
    return recorded.count("\n| `")


def _series(names: Iterable[str]) -> set[str]:
    """Return the recorded names without their window."""
    return {":".join(name.split(":")[:2]) for name in names}


def test_every_recorded_series_of_the_page_is_recorded() -> None:
    """A rule that is renamed or removed leaves the page."""
    page = PAGE.read_text("utf-8").partition("## Recorded series")[2]
    rules = "\n".join(path.read_text("utf-8") for path in ROOT.glob("prometheus/rules/*.yml"))
    listed = re.findall(r"`(\w+:[\w:]+)`", page)

    assert listed
    assert _series(listed) <= _series(re.findall(r"record: (\S+)", rules))
