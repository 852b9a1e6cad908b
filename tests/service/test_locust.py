"""A real locust against a service that counts its answers exactly."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.locust import Locust, StrictService, locust, strict_service
from tests.support.machine import free_port
from tests.support.wait import eventually
from traffic.manifest import Manifest, read_manifest
from traffic.rows import Populations, load_populations
from traffic.scenarios import SCENARIOS, requests_of

LIMIT = 200
HEADLESS = {"headless": True, "only_summary": True, "spawn_rate": 100}
# A file with other columns.
ROWS_OF_ANOTHER_MODEL = Path(__file__)
STEADY = {"predict", "health", "bad_value"}


@pytest.fixture(name="manifest")
def _manifest(example_bundle: Path) -> Manifest:
    return read_manifest(example_bundle)


@pytest.fixture(name="populations")
def _populations(manifest: Manifest) -> Populations:
    return load_populations("held_out", manifest)


@pytest.fixture(name="service")
def _service(manifest: Manifest) -> Iterator[StrictService]:
    with strict_service(manifest, LIMIT) as service:
        yield service


def _assert_equal_counts(client: Locust, service: StrictService) -> None:
    requests = client.wait_for_requests(LIMIT)
    expected = {
        "predict": service.answered["POST", "/predict", 200],
        "bad_value": service.answered["POST", "/predict", 422],
        "health": service.answered["GET", "/healthz", 200],
    }

    assert sum(expected.values()) == LIMIT
    assert expected == requests
    assert expected == client.by_name("locust_response_time_seconds_count")
    assert dict.fromkeys(STEADY, 0) == client.by_name("locust_failures_total")


def _value(client: Locust, metric: str, **labels: str) -> float:
    return client.metrics()[metric][frozenset(labels.items())]


def test_counts_of_a_headless_process_are_exact(
    service: StrictService, example_bundle: Path, tmp_path: Path
) -> None:
    """The exporter counts every answered request by name."""
    settings = {**HEADLESS, "host": service.url, "users": 4, "requests_per_second_per_user": 0}
    with locust(tmp_path / "log", example_bundle, **settings) as client:
        _assert_equal_counts(client, service)

        assert _value(client, "locust_users") == 4
        assert _value(client, "locust_workers") == 1
        assert _value(client, "locust_state", state="running") == 1
        traffic = {"scenario": "steady", "rows": "held_out", "seed": "0"}
        assert _value(client, "locust_traffic_info", **traffic) == 1

    assert "Warning" not in client.log.read_text()


def test_counts_of_distributed_processes_are_exact(
    service: StrictService, example_bundle: Path, tmp_path: Path
) -> None:
    """The exporter of a master counts the requests of both workers.

    The workers have no exporter, so that nothing is counted twice.
    """
    port = free_port()
    common = {"host": service.url, "requests_per_second_per_user": 0}
    worker = {**common, "mode_worker": True, "master_node_host": "127.0.0.1"}
    master = {**common, **HEADLESS, "mode_master": True, "expect_workers": 2, "users": 4}
    with ExitStack() as stack:
        start = stack.enter_context
        workers = [
            start(locust(tmp_path / name, example_bundle, master_node_port=port, **worker))
            for name in ("a", "b")
        ]
        client = start(
            locust(
                tmp_path / "master",
                example_bundle,
                master_bind_host="127.0.0.1",
                master_bind_port=port,
                **master,
            )
        )
        _assert_equal_counts(client, service)

        assert _value(client, "locust_workers") == 2
        assert _value(client, "locust_users") == 4
        for each in workers:
            with pytest.raises(httpx.ConnectError):
                each.metrics()


def test_traffic_with_the_ui_starts_and_can_be_reset(
    service: StrictService, example_bundle: Path, tmp_path: Path
) -> None:
    """With autostart the traffic starts; after a reset every series exists at 0."""
    port = free_port()
    settings = {
        "host": service.url,
        "autostart": True,
        "users": 4,
        "web_host": "127.0.0.1",
        "web_port": port,
        "requests_per_second_per_user": 0,
    }
    with locust(tmp_path / "log", example_bundle, **settings) as client:
        _assert_equal_counts(client, service)

        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
        httpx.post(f"http://127.0.0.1:{port}/stats/reset").raise_for_status()
        assert dict.fromkeys(STEADY, 0) == client.wait_for_requests(0)


def _drifts(service: StrictService, populations: Populations) -> bool | None:
    """Return whether the last requested row is a drifted one, or None if it is in neither file."""
    asked = service.last_row
    if asked in [row.features for row in populations.drifted]:
        return True
    return False if asked in [row.features for row in populations.usual] else None


def test_drift_is_switched_while_the_traffic_runs(
    manifest: Manifest, populations: Populations, example_bundle: Path, tmp_path: Path
) -> None:
    """POST /drift switches the rows and the exported labels in both directions."""
    port = free_port()
    web = {"autostart": True, "web_host": "127.0.0.1", "web_port": port}
    url = f"http://127.0.0.1:{port}/drift"
    with (
        strict_service(manifest) as service,
        locust(tmp_path / "log", example_bundle, host=service.url, users=1, **web) as client,
    ):
        eventually(lambda: _drifts(service, populations) is False, "a held-out row")
        for mode, rows, drifts in (("drifted", "drifted", True), ("off", "held_out", False)):
            answer = httpx.post(url, json={"mode": mode}).raise_for_status().json()

            assert (answer["mode"], answer["drifted_ratio"]) == (mode, float(drifts))
            eventually(
                lambda drifts=drifts: _drifts(service, populations) is drifts,  # type: ignore[misc]
                f"a row after {mode}",
            )
            labels = {"scenario": "steady", "rows": rows, "seed": "0"}
            assert _value(client, "locust_traffic_info", **labels) == 1
            assert _value(client, "locust_drifted_ratio") == float(drifts)
        assert httpx.post(url, json={"mode": "on"}).status_code == 422
        assert client.process.poll() is None


def test_drift_is_switched_in_every_worker(
    manifest: Manifest, populations: Populations, example_bundle: Path, tmp_path: Path
) -> None:
    """The master forwards a switch, also to a worker that connects later."""
    port, web_port = free_port(), free_port()
    with ExitStack() as stack:
        start = stack.enter_context
        service = start(strict_service(manifest))
        worker = {"host": service.url, "mode_worker": True, "master_node_host": "127.0.0.1"}
        master = {
            "host": service.url,
            "mode_master": True,
            "expect_workers": 1,
            "users": 2,
            "master_bind_host": "127.0.0.1",
            "master_bind_port": port,
            "autostart": True,
            "web_host": "127.0.0.1",
            "web_port": web_port,
        }
        client = start(locust(tmp_path / "master", example_bundle, **master))
        first = start(locust(tmp_path / "a", example_bundle, master_node_port=port, **worker))
        eventually(lambda: _drifts(service, populations) is False, "a held-out row", timeout=60)

        url = f"http://127.0.0.1:{web_port}/drift"
        httpx.post(url, json={"mode": "drifted"}).raise_for_status()
        eventually(lambda: _drifts(service, populations) is True, "a drifted row", timeout=30)

        start(locust(tmp_path / "b", example_bundle, master_node_port=port, **worker))
        eventually(lambda: _value(client, "locust_workers") == 2, "two workers", timeout=60)
        first.process.terminate()
        eventually(lambda: _value(client, "locust_workers") == 1, "one worker", timeout=60)
        service.last_row = {}
        eventually(lambda: _drifts(service, populations) is True, "the late worker's", timeout=60)


def test_every_kind_of_malformed_request_is_rejected_as_expected(
    manifest: Manifest, populations: Populations, example_bundle: Path, tmp_path: Path
) -> None:
    """One user's first round has every malformed request by its weight, and none fails."""
    mix = SCENARIOS["malformed"](manifest)
    with strict_service(manifest, sum(mix.values())) as service:
        settings = {"host": service.url, "users": 1, "requests_per_second_per_user": 0}
        with locust(
            tmp_path / "log", example_bundle, scenario="malformed", **settings, **HEADLESS
        ) as client:
            requests = client.wait_for_requests(sum(mix.values()))

            names = [name for _, name in requests_of(mix, populations.usual[0])]
            assert dict(zip(names, mix.values(), strict=True)) == requests
            assert dict.fromkeys(names, 0) == client.by_name("locust_failures_total")


def test_labels_are_sent(
    manifest: Manifest, populations: Populations, example_bundle: Path, tmp_path: Path
) -> None:
    """Ids are those of the service's predictions, and values the true ones plus the shift."""
    with strict_service(manifest) as service:
        settings = {**HEADLESS, "host": service.url, "users": 1}
        labels = {"label_share": 1, "label_delay_seconds": 0, "label_shift": 0.25}
        with locust(tmp_path / "log", example_bundle, **settings, **labels):
            label = eventually(lambda: service.labels, "a label")[0]

    assert label["prediction_id"] in service.predictions
    actual = {row.actual for row in populations.usual}
    assert label["actual"] in {value + 0.25 for value in actual if isinstance(value, float)}


def test_unexpected_answers_fail_a_load_test(
    manifest: Manifest, example_bundle: Path, tmp_path: Path
) -> None:
    """Failures are counted by reason, and the load test exits with 1."""
    with strict_service(manifest, broken=True) as service:
        settings = {**HEADLESS, "host": service.url, "users": 1}
        with locust(tmp_path / "log", example_bundle, run_time="3s", **settings) as client:
            failed = eventually(
                lambda: _value(
                    client,
                    "locust_failures_total",
                    method="POST",
                    name="predict",
                    reason="unexpected_status",
                ),
                "a failure",
            )

            assert failed > 0
            assert client.process.wait(timeout=30) == 1
    assert "unexpected_status: 500 instead of 200" in client.log.read_text()


def test_a_load_test_without_failures_exits_with_0(
    manifest: Manifest, example_bundle: Path, tmp_path: Path
) -> None:
    """It ends after its run time."""
    with strict_service(manifest) as service:
        settings = {**HEADLESS, "host": service.url, "users": 2, "stop_timeout": 5}
        with locust(tmp_path / "log", example_bundle, run_time="1s", **settings) as client:
            assert client.process.wait(timeout=30) == 0
    assert service.answered.total() > 0


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"rows": "blue"}, "LOCUST_ROWS: 'blue' is none of held_out, drifted, gradual, and"),
        ({"rows": ROWS_OF_ANOTHER_MODEL}, f"LOCUST_ROWS: {ROWS_OF_ANOTHER_MODEL} has no column "),
        ({"bundle": "/nowhere"}, "no bundle at /nowhere: bundle.json: No such file or directory"),
        ({"host": ""}, "LOCUST_HOST: '' is not a URL such as http://127.0.0.1:8000"),
        ({"host": "model:8000"}, "LOCUST_HOST: 'model:8000' is not a URL"),
    ],
)
def test_the_error_of_an_invalid_setting_is_one_line(
    settings: dict[str, object], line: str, example_bundle: Path, tmp_path: Path
) -> None:
    """Locust exits with 1, and the last line names the setting."""
    given = {**HEADLESS, "host": "http://127.0.0.1:1", **settings}
    bundle = Path(str(given.pop("bundle", example_bundle)))
    with locust(tmp_path / "log", bundle, **given) as client:
        assert client.process.wait(timeout=30) == 1
    _assert_last_line(client, line)


def test_the_error_of_a_port_in_use_is_one_line(
    service: StrictService, example_bundle: Path, tmp_path: Path
) -> None:
    """Locust exits with 1, and the last line names the exporter's port."""
    settings = {**HEADLESS, "host": service.url, "metrics_port": service.server_port}
    with locust(tmp_path / "log", example_bundle, **settings) as client:
        assert client.process.wait(timeout=30) == 1
    _assert_last_line(
        client,
        f"LOCUST_METRICS_PORT: cannot listen on 127.0.0.1:{service.server_port}:"
        " Address already in use",
    )


def _assert_last_line(client: Locust, expected: str) -> None:
    lines = client.log.read_text().splitlines()
    assert lines[-1].startswith(expected)
    assert "Traceback" not in "".join(lines)
