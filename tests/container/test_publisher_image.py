"""The image of the publisher: what it contains, and how it runs if only the spool is writable."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from testcontainers.core.container import DockerContainer

from tests.support.docker import (
    HARDENED,
    bridge_address,
    built,
    check_command,
    container,
    docker,
    ended,
    importable,
    inspect,
    logs,
    only_error,
    url,
)
from tests.support.model import parse, total
from tests.support.spool import label, predictions, small_spool
from tests.support.wait import eventually
from tools.fiddler_stand_in import (
    ORGANISATION,
    TOKEN,
    Fault,
    Fiddler,
    first_requests,
    running_fiddler,
)

pytestmark = pytest.mark.timeout(900)  # the first test builds the image

SPOOL = "/var/spool/model"
# The mount of compose.yaml.
TMPFS = {"/tmp": ""}  # noqa: S108 the container's
NOWHERE = "http://127.0.0.1:9"  # nothing listens there, inside a container either
IDS = [f"p-{number}" for number in range(1_500)]
LABELLED = IDS[::10]


@pytest.fixture(scope="module")
def image() -> str:
    """Return the built image's name."""
    return built("publisher")


@pytest.fixture
def fiddler() -> Iterator[Fiddler]:
    """Run a stand-in for Fiddler that containers can reach."""
    with running_fiddler(bridge_address()) as started:
        yield started


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Return a spool with two batches and some labels, writable by the container's user."""
    directory = tmp_path / "spool"
    directory.mkdir()
    writer, _ = small_spool(directory)
    writer.append(predictions(IDS))
    writer.append([label(each) for each in LABELLED])
    writer.close()
    for path in (directory, *directory.iterdir()):
        path.chmod(0o777)
    return directory


def hardened(
    image: str, address: str = NOWHERE, spool: Path | None = None, **settings: str
) -> DockerContainer:
    """Return a container with the restrictions of compose.yaml, optionally with a spool."""
    given = {
        "FIDDLER_URL": address,
        "FIDDLER_ORG_ID": ORGANISATION,
        "FIDDLER_AUTH_TOKEN": TOKEN,
        "PUBLISHER_LABEL_DELAY_SECONDS": "0",
    } | settings
    restricted = container(image, 9647, **HARDENED).with_envs(**given)
    restricted.tmpfs.update(TMPFS)
    if spool:
        restricted.with_volume_mapping(spool, SPOOL, "rw")
    return restricted


def value(started: DockerContainer, name: str, **labels: str) -> float:
    """Return the sum of a metric's series with these labels."""
    text = httpx.get(url(started, 9647, "/metrics")).raise_for_status().text
    return total(parse(text), name, **labels)


def test_the_image_is_below_450_megabytes(image: str) -> None:
    """A cluster pulls less than 450 MB, mostly pyarrow, pandas and NumPy for Fiddler's client."""
    assert inspect(image)["Size"] < 450e6


def test_the_image_runs_as_a_numbered_user_without_a_shell(image: str) -> None:
    """The publisher is the entrypoint, and its metrics are the health check."""
    check_command(image, ["python", "-m", "publisher"], ("9647", "/metrics"), "9647")


def test_the_image_contains_the_client_and_nothing_of_the_service(image: str) -> None:
    """It contains neither a model, nor the service, nor a package installer."""
    modules = ("fiddler", "publisher", "sklearn", "serving", "bundle", "example", "pip")

    assert importable(image, *modules) == ["fiddler", "publisher"]


def test_a_spool_is_published_with_a_read_only_root(
    image: str, spool: Path, fiddler: Fiddler
) -> None:
    """With the real client each event arrives once, and each label on its event."""
    with hardened(image, fiddler.url, spool) as started:
        eventually(lambda: not [*spool.glob("*.jsonl")], "the published segment is removed")
        sent = {
            kind: value(started, "publisher_events_total", kind=kind)
            for kind in ("prediction", "label")
        }

    events = fiddler.store.all_events()
    assert sent == {"prediction": len(IDS), "label": len(LABELLED)}
    assert set(events) == set(IDS)
    assert {key for key, event in events.items() if "quality" in event} == set(LABELLED)
    assert fiddler.store.counts["accepted"] == len(IDS)
    assert fiddler.store.counts["orphans"] == 0


def test_the_publisher_is_healthy_while_fiddler_is_down(image: str, spool: Path) -> None:
    """A restart by Docker would not help."""
    with hardened(image, spool=spool) as started:
        name = started.get_container_id()
        eventually(
            lambda: value(started, "publisher_failures_total", cause="connection"), "a failure"
        )
        eventually(
            lambda: inspect(name)["State"]["Health"]["Status"] == "healthy",
            "Docker reports healthy",
        )


def test_the_publisher_stops_cleanly_while_fiddler_hangs(
    image: str, spool: Path, fiddler: Fiddler
) -> None:
    """It ends with 0 within Docker's default of 10 s, in the middle of a request."""
    fiddler.fault = first_requests(1, Fault("stall"))
    with hardened(image, fiddler.url, spool) as started:
        assert fiddler.stalled.wait(60), logs(started)
        docker("stop", "--time", "10", started.get_container_id())
        code, errors = ended(started)

    assert code == 0
    assert not [line for line in errors if "Traceback" in line]
    assert fiddler.store.all_events() == {}


def test_a_wrong_token_is_reported_without_being_printed(
    image: str, spool: Path, fiddler: Fiddler
) -> None:
    """The publisher keeps running, so that its metrics report that access is denied."""
    wrong = "another-token-for-tests"
    with hardened(image, fiddler.url, spool, FIDDLER_AUTH_TOKEN=wrong) as started:
        eventually(lambda: value(started, "publisher_stopped", reason="denied"), "it is denied")
        output = logs(started)

    assert "Fiddler denied access (401): Invalid token" in output
    assert wrong not in output


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"FIDDLER_URL": ""}, "FIDDLER_URL: Field required"),
        ({"FIDDLER_AUTH_TOKEN": ""}, "FIDDLER_AUTH_TOKEN: Field required"),
        ({"FIDDLER_URL": f"{NOWHERE}/v3"}, "FIDDLER_URL: Value error, must not have a path"),
        ({"PUBLISHER_METRICS_PORT": "0"}, "PUBLISHER_METRICS_PORT: "),
        ({"PUBLISHER_HOST": "192.0.2.1"}, "PUBLISHER_METRICS_PORT: Cannot assign"),
    ],
)
def test_the_error_of_an_invalid_setting_is_one_line(
    image: str, spool: Path, settings: dict[str, str], complaint: str
) -> None:
    """The container exits with 1 and names the setting."""
    with hardened(image, spool=spool, **settings) as started:
        line = only_error(started)

    assert line.startswith(f"publisher: {complaint}")
    assert TOKEN not in line


def test_the_error_of_a_spool_of_another_user_is_one_line(image: str) -> None:
    """A volume that belongs to root is not writable."""
    foreign = hardened(image)
    foreign.tmpfs[SPOOL] = "uid=0,gid=0,mode=0755"
    with foreign as started:
        line = only_error(started)

    assert line == f"publisher: {SPOOL}: Permission denied"


def test_the_error_of_a_missing_spool_is_one_line(image: str) -> None:
    """Without a volume the directory is read-only."""
    with hardened(image) as started:
        line = only_error(started)

    assert line == f"publisher: {SPOOL}: Read-only file system"
