"""The publisher's image: what is in it, and how it behaves where only the spool may be written."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from testcontainers.core.container import DockerContainer

from tests.support.docker import (
    HARDENED,
    bridge_address,
    built,
    container,
    docker,
    ended,
    inspect,
    logs,
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
# As compose.yaml mounts it.
TMPFS = {"/tmp": ""}  # noqa: S108 the container's
NOWHERE = "http://127.0.0.1:9"  # refuses connections, inside a container too
IDS = [f"p-{number}" for number in range(1_500)]
LABELLED = IDS[::10]


@pytest.fixture(scope="module")
def image() -> str:
    """Return the built image's name."""
    return built("publisher")


@pytest.fixture
def fiddler() -> Iterator[Fiddler]:
    """Run a Fiddler that containers reach."""
    with running_fiddler(bridge_address()) as started:
        yield started


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Return a spool with two batches and some labels, the container's user may do all with it."""
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
    """Return a container as locked up as compose.yaml locks it up; without a spool it has none."""
    given = {
        "FIDDLER_URL": address,
        "FIDDLER_ORG_ID": ORGANISATION,
        "FIDDLER_AUTH_TOKEN": TOKEN,
        "PUBLISHER_LABEL_DELAY_SECONDS": "0",
    } | settings
    locked_up = container(image, 9647, **HARDENED).with_envs(**given)
    locked_up.tmpfs.update(TMPFS)
    if spool:
        locked_up.with_volume_mapping(spool, SPOOL, "rw")
    return locked_up


def value(started: DockerContainer, name: str, **labels: str) -> float:
    """Return the sum of a metric's series with these labels."""
    text = httpx.get(url(started, 9647, "/metrics")).raise_for_status().text
    return total(parse(text), name, **labels)


def test_image_is_below_450_megabytes(image: str) -> None:
    """A cluster pulls less than 450 MB; most is pyarrow, pandas and NumPy, the client's needs."""
    assert inspect(image)["Size"] < 450e6


def test_image_runs_as_a_numbered_user_without_a_shell_in_between(image: str) -> None:
    """Kubernetes can tell that it is not root, and signals reach the publisher."""
    config = inspect(image)["Config"]

    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["python", "-m", "publisher"]
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "/srv/probe.py", "9647", "/metrics"]
    assert {"9647/tcp"} == set(config["ExposedPorts"])


def test_image_holds_the_client_and_nothing_of_the_service(image: str) -> None:
    """Fiddler's client and the publisher; neither a model, nor the service, nor an installer."""
    ask = (
        "import importlib.util, sys;"
        "print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    )
    modules = ("fiddler", "publisher", "sklearn", "serving", "bundle", "example", "pip")

    found = docker("run", "--rm", "--entrypoint", "python", image, "-c", ask, *modules)

    assert found == "['fiddler', 'publisher']"


def test_a_spool_reaches_fiddler_from_a_read_only_root(
    image: str, spool: Path, fiddler: Fiddler
) -> None:
    """The real client in its container: each event arrives once, each label on its event."""
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


def test_publisher_is_healthy_while_fiddler_is_not(image: str, spool: Path) -> None:
    """Docker does not restart it for something that a restart would not mend."""
    with hardened(image, spool=spool) as started:
        name = started.get_container_id()
        eventually(
            lambda: value(started, "publisher_failures_total", cause="connection"), "a failure"
        )
        eventually(
            lambda: inspect(name)["State"]["Health"]["Status"] == "healthy", "Docker says healthy"
        )


def test_publisher_stops_cleanly_while_fiddler_hangs(
    image: str, spool: Path, fiddler: Fiddler
) -> None:
    """In the 10 s that Docker gives by default it ends with 0, in the middle of a request."""
    fiddler.fault = first_requests(1, Fault("stall"))
    with hardened(image, fiddler.url, spool) as started:
        assert fiddler.stalled.wait(60), logs(started)
        docker("stop", "--time", "10", started.get_container_id())
        code, errors = ended(started)

    assert code == 0
    assert not [line for line in errors if "Traceback" in line]
    assert fiddler.store.all_events() == {}


def test_wrong_token_is_told_and_not_shown(image: str, spool: Path, fiddler: Fiddler) -> None:
    """Denied access leaves it running, so that its metrics can tell; nothing shows the token."""
    wrong = "another-token-for-tests"
    with hardened(image, fiddler.url, spool, FIDDLER_AUTH_TOKEN=wrong) as started:
        eventually(lambda: value(started, "publisher_stopped", reason="denied"), "it is denied")
        said = logs(started)

    assert "Fiddler denied access (401): Invalid token" in said
    assert wrong not in said


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
def test_wrong_setting_is_one_line(
    image: str, spool: Path, settings: dict[str, str], complaint: str
) -> None:
    """It ends at once, with 1, and says which setting."""
    with hardened(image, spool=spool, **settings) as started:
        code, errors = ended(started)

    assert code == 1
    assert len(errors) == 1
    assert errors[0].startswith(f"publisher: {complaint}")
    assert TOKEN not in errors[0]


def test_spool_of_another_user_is_one_line(image: str) -> None:
    """A volume that belongs to root ends it at once, and it says so."""
    foreign = hardened(image)
    foreign.tmpfs[SPOOL] = "uid=0,gid=0,mode=0755"
    with foreign as started:
        code, errors = ended(started)

    assert code == 1
    assert errors == [f"publisher: {SPOOL}: Permission denied"]


def test_forgotten_spool_is_one_line(image: str) -> None:
    """Without a volume there is nothing to write to, and it says so."""
    with hardened(image) as started:
        code, errors = ended(started)

    assert code == 1
    assert errors == [f"publisher: {SPOOL}: Read-only file system"]
