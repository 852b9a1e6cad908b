"""A real locust against a service that knows exactly what it answered."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.locust import Locust, StrictService, locust, strict_service
from tests.support.machine import free_port
from tests.support.wait import eventually
from traffic.scenarios import SCENARIOS, requests_of

LIMIT = 200
HEADLESS = {"headless": True, "only_summary": True, "spawn_rate": 100}
STEADY = {"predict", "health", "bad_value"}


@pytest.fixture(name="service")
def _service() -> Iterator[StrictService]:
    with strict_service(LIMIT) as service:
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


def test_headless_counts_equal_what_the_service_answered(
    service: StrictService, tmp_path: Path
) -> None:
    """The exporter of one headless process counts every answered request, by name, exactly."""
    settings = {**HEADLESS, "host": service.url, "users": 4, "requests_per_second_per_user": 0}
    with locust(tmp_path / "log", **settings) as client:
        _assert_equal_counts(client, service)

        assert _value(client, "locust_users") == 4
        assert _value(client, "locust_workers") == 1
        assert _value(client, "locust_state", state="running") == 1
        traffic = {"scenario": "steady", "rows": "red", "seed": "0"}
        assert _value(client, "locust_traffic_info", **traffic) == 1

    assert "Warning" not in client.log.read_text()


def test_distributed_counts_equal_what_the_service_answered(
    service: StrictService, tmp_path: Path
) -> None:
    """A master and two workers, by environment alone: the master's exporter counts for all.

    The workers have none, so that nothing is counted twice.
    """
    port = free_port()
    common = {"host": service.url, "requests_per_second_per_user": 0}
    worker = {**common, "mode_worker": True, "master_node_host": "127.0.0.1"}
    master = {**common, **HEADLESS, "mode_master": True, "expect_workers": 2, "users": 4}
    with ExitStack() as stack:
        start = stack.enter_context
        workers = [
            start(locust(tmp_path / name, master_node_port=port, **worker)) for name in ("a", "b")
        ]
        client = start(
            locust(
                tmp_path / "master",
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


def test_ui_starts_by_itself_and_a_reset_is_a_counter_reset(
    service: StrictService, tmp_path: Path
) -> None:
    """With the UI the traffic starts as well; after its "Reset" every series is there, at 0."""
    port = free_port()
    settings = {
        "host": service.url,
        "autostart": True,
        "users": 4,
        "web_host": "127.0.0.1",
        "web_port": port,
        "requests_per_second_per_user": 0,
    }
    with locust(tmp_path / "log", **settings) as client:
        _assert_equal_counts(client, service)

        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
        httpx.post(f"http://127.0.0.1:{port}/stats/reset").raise_for_status()
        assert dict.fromkeys(STEADY, 0) == client.wait_for_requests(0)


def test_every_kind_of_malformed_request_is_refused_as_expected(tmp_path: Path) -> None:
    """One user's first round holds every malformed request by its weight, and none surprises."""
    mix = SCENARIOS["malformed"]
    with strict_service(sum(mix.values())) as service:
        settings = {"host": service.url, "users": 1, "requests_per_second_per_user": 0}
        with locust(tmp_path / "log", scenario="malformed", **settings, **HEADLESS) as client:
            requests = client.wait_for_requests(sum(mix.values()))

            names = [name for _, name in requests_of(mix, {"quality": 5.0, "ph": 3.0})]
            assert dict(zip(names, mix.values(), strict=True)) == requests
            assert dict.fromkeys(names, 0) == client.by_name("locust_failures_total")


def test_true_values_come_back(tmp_path: Path) -> None:
    """Labels name predictions that the service gave, and hold the true score plus the shift."""
    with strict_service() as service:
        settings = {**HEADLESS, "host": service.url, "users": 1}
        labels = {"label_share": 1, "label_delay_seconds": 0, "label_shift": 0.25}
        with locust(tmp_path / "log", **settings, **labels):
            label = eventually(lambda: service.labels, "a label")[0]

    assert label["prediction_id"] in service.predictions
    assert label["actual"] in {score + 0.25 for score in range(3, 9)}


def test_unexpected_answers_fail_a_load_test(tmp_path: Path) -> None:
    """Failures are counted by reason, and the load test exits with 1."""
    with strict_service(broken=True) as service:
        settings = {**HEADLESS, "host": service.url, "users": 1}
        with locust(tmp_path / "log", run_time="3s", **settings) as client:
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


def test_load_test_without_failures_exits_with_0(tmp_path: Path) -> None:
    """A load test ends by itself after its run time."""
    with strict_service() as service:
        settings = {**HEADLESS, "host": service.url, "users": 2, "stop_timeout": 5}
        with locust(tmp_path / "log", run_time="1s", **settings) as client:
            assert client.process.wait(timeout=30) == 0
    assert service.answered.total() > 0


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"rows": "blue"}, "LOCUST_ROWS: 'blue' is none of red, white, gradual"),
        ({"host": ""}, "LOCUST_HOST: '' is not a URL such as http://127.0.0.1:8000"),
        ({"host": "model:8000"}, "LOCUST_HOST: 'model:8000' is not a URL"),
    ],
)
def test_bad_setting_is_one_line(settings: dict[str, object], line: str, tmp_path: Path) -> None:
    """A bad setting ends locust with 1, and the last line names it."""
    given = {**HEADLESS, "host": "http://127.0.0.1:1", **settings}
    with locust(tmp_path / "log", **given) as client:
        assert client.process.wait(timeout=30) == 1
    _assert_last_line(client, line)


def test_exporter_port_in_use_is_one_line(service: StrictService, tmp_path: Path) -> None:
    """A taken exporter port ends locust with 1, and the last line names it."""
    settings = {**HEADLESS, "host": service.url, "metrics_port": service.server_port}
    with locust(tmp_path / "log", **settings) as client:
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
