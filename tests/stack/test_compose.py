"""The stack in containers: it starts healthy, exports its metrics, and leaves nothing."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.docker import Stack, assert_hardened, composed, default_services, is_available
from tests.support.wait import eventually
from tools.stack import releases

GRAFANA = f"grafana/grafana:{releases.VERSIONS['grafana']}"
SERVICES = ("locust", "model", "prometheus", "alertmanager")

pytestmark = pytest.mark.timeout(900)  # the first test builds the images


@pytest.fixture(scope="module")
def services() -> tuple[str, ...]:
    """Return the services that this machine can run: Grafana's image is not everywhere."""
    return (*SERVICES, "grafana") if is_available(GRAFANA) else SERVICES


@pytest.fixture(scope="module")
def stack(services: tuple[str, ...]) -> Iterator[Stack]:
    """Start the whole stack, once for the tests of this file."""
    with composed(*services) as started:
        yield started


def prometheus(stack: Stack, path: str, **parameters: str) -> Any:  # noqa: ANN401 (JSON)
    """Return what Prometheus's API answers."""
    answer = httpx.get(stack.url("PROMETHEUS_PORT", f"/api/v1/{path}"), params=parameters)
    return answer.raise_for_status().json()["data"]


def value(stack: Stack, query: str) -> float:
    """Return the one value of an instant query; 0 while there is none."""
    result = prometheus(stack, "query", query=query)["result"]
    return float(result[0]["value"][1]) if result else 0.0


def test_every_container_is_healthy_and_locked_up(stack: Stack, services: tuple[str, ...]) -> None:
    """What compose.yaml asks for is what Docker enforces."""
    containers = stack.containers()

    assert set(containers) == set(services)
    for known in containers.values():
        assert_hardened(known)


def test_prometheus_sees_every_target_up(stack: Stack, services: tuple[str, ...]) -> None:
    """Every service is scraped under its own name."""

    def not_up() -> dict[str, str]:
        targets = prometheus(stack, "targets", state="active")["activeTargets"]
        errors = {each["labels"]["job"]: each["lastError"] or each["health"] for each in targets}
        assert set(errors) == set(SERVICES) | {"grafana"}
        return {job: errors[job] for job in services if errors[job] != "up"}

    try:
        eventually(lambda: not not_up(), "every target is up")
    except AssertionError as error:
        pytest.fail(f"{error}: {not_up()}")


def test_without_fiddler_nothing_is_spooled_or_published(stack: Stack) -> None:
    """Neither a publisher nor its target, and however much is predicted, no event on the disk."""
    asked = {"FIDDLER_URL": "http://127.0.0.1:9", "COMPOSE_PROFILES": "fiddler"}
    predicted = "sum(model_predictions_total) > 0"
    eventually(lambda: value(stack, predicted), predicted, timeout=120)

    assert set(default_services(**asked)) - set(default_services()) == {"publisher"}
    assert stack.compose("exec", "-T", "model", "ls", "-A", "/var/spool/model") == ""
    assert value(stack, "count(model_spool_events_total > 0)") == 0
    assert value(stack, 'count(up{job="publisher"})') == 0


@pytest.mark.parametrize(
    "query",
    [
        'sum(rate(http_requests_total{job="model"}[1m]))',
        'sum(rate(model_predictions_total{job="model"}[1m]))',
        'sum(rate(model_input_rejected_total{job="model"}[1m]))',
    ],
)
def test_traffic_shows_in_prometheus(stack: Stack, query: str) -> None:
    """Locust's requests, their predictions and the rejected ones are counted."""
    eventually(lambda: value(stack, query) > 0, query, timeout=120)


def test_traffic_meets_no_server_error(stack: Stack) -> None:
    """Nothing that the simulated clients send makes the model fail."""
    eventually(lambda: value(stack, 'count(http_requests_total{job="model"})'), "requests counted")

    assert value(stack, 'sum(http_requests_total{job="model", status="5xx"})') == 0


def test_rules_evaluate_without_error(stack: Stack) -> None:
    """Every rule file is loaded, and every rule can be computed."""

    def rules() -> list[dict[str, Any]] | None:
        found = [rule for group in prometheus(stack, "rules")["groups"] for rule in group["rules"]]
        return None if any(rule["health"] == "unknown" for rule in found) else found

    found = eventually(rules, "every rule was evaluated", timeout=120)

    assert [rule["name"] for rule in found if rule["health"] != "ok"] == []


def test_prometheus_knows_the_alertmanager(stack: Stack) -> None:
    """Alerts have somewhere to go."""

    def known() -> list[dict[str, str]] | None:
        found: list[dict[str, str]] = prometheus(stack, "alertmanagers")["activeAlertmanagers"]
        return found

    [alertmanager] = eventually(known, "an Alertmanager is known")

    assert alertmanager["url"].startswith("http://alertmanager:9093/")


def test_locust_shows_its_figures(stack: Stack) -> None:
    """Its UI answers, and shows that the traffic runs."""
    assert httpx.get(stack.url("LOCUST_PORT", "/")).is_success

    figures = httpx.get(stack.url("LOCUST_PORT", "/stats/requests")).json()
    assert figures["state"] in ("spawning", "running")


def test_grafana_has_its_datasource_and_its_own_password(
    stack: Stack, services: tuple[str, ...]
) -> None:
    """Nobody chose the password, and the provisioned datasource reaches Prometheus."""
    if "grafana" not in services:
        # No stand-in, as Debian has no Grafana: the one skip that REQUIRE_ALL=1 allows.
        pytest.skip(f"the image {GRAFANA} is neither here nor to be pulled")
    password = stack.compose("exec", "-T", "grafana", "cat", "/var/lib/grafana/admin-password")

    health = httpx.get(
        stack.url("GRAFANA_PORT", "/api/datasources/uid/prometheus/health"),
        auth=("admin", password),
    )

    assert health.json()["status"] == "OK"
    assert httpx.get(stack.url("GRAFANA_PORT", "/api/search")).status_code == 401


def test_slack_is_on_when_its_file_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One variable that names a file, and Alertmanager sends to Slack; the URL stays hidden."""
    webhook = tmp_path_factory.mktemp("slack") / "webhook.secret"
    webhook.write_text("http://127.0.0.1:9/hook")

    with composed("alertmanager", SLACK_WEBHOOK_FILE=str(webhook)) as stack:
        status = httpx.get(stack.url("ALERTMANAGER_PORT", "/api/v2/status")).json()
        seen = stack.compose("exec", "-T", "alertmanager", "cat", "secrets/slack_webhook_url")

    assert "slack_configs" in status["config"]["original"]
    assert "9/hook" not in status["config"]["original"]
    assert seen == "http://127.0.0.1:9/hook"


def test_down_leaves_nothing() -> None:
    """After `down --volumes` no container, volume or network of the project is left."""
    with composed("prometheus", "alertmanager") as stack:
        before = stack.leftovers()

    assert before
    assert stack.leftovers() == []
