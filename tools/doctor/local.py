"""Check the stack on this machine, in containers or as plain processes, by its URLs."""

import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tools.doctor import prometheus
from tools.doctor.findings import Finding, UnreachableError, ok, or_ok, problem, unknown
from tools.stack import probe, traffic
from tools.stack.settings import Settings

REMEDIES = prometheus.Remedies(
    no_model="restore prometheus/targets/model.yml",
    target_down={"*": "`./task logs` shows why; `./task up` starts what does not run"},
    rules_missing="restart Prometheus: `./task down`, `./task up`",
    no_alertmanager="restore prometheus/targets/alertmanager.yml",
    optional=("grafana",),
    no_traffic="`./task logs -- locust` shows why; `./task up` starts it",
    clock="set this machine's clock by NTP",
)
# A proxy of the environment has no business between this machine and itself.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Answer:
    """An answer: the body, and the server's clock in seconds since 1970, where it sends one."""

    body: bytes
    clock: float | None


def ask(url: str, password: str | None = None) -> Answer:
    """Return the answer of a URL. Raises UnreachableError."""
    shown = url.partition("?")[0]
    request = urllib.request.Request(url)  # noqa: S310 the stack's own addresses
    if password:
        credentials = base64.b64encode(f"admin:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {credentials}")
    try:
        with _OPENER.open(request, timeout=10) as answer:
            date = answer.headers.get("Date")
            clock = parsedate_to_datetime(date).timestamp() if date else None
            return Answer(answer.read(), clock)
    except urllib.error.HTTPError as error:
        raise UnreachableError(f"{shown} answers with status {error.code}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UnreachableError(f"{shown} does not answer: {reason}") from error


@dataclass(frozen=True)
class UrlPrometheus:
    """Prometheus' API at a URL."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 JSON
        """Return the `data` of an answer. Raises UnreachableError."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        data = json.loads(ask(f"{self.url}/api/v1/{path}{query}").body)["data"]
        return data["result"] if data.get("resultType") == "scalar" else data


def examine(settings: Settings, rules: Path, boards: Path) -> Iterator[Finding]:
    """Check this machine's stack, from the model to its dashboards."""
    yield from _model(settings)
    yield from _version(settings)
    source = UrlPrometheus(settings.url("PROMETHEUS_PORT"))
    try:
        yield from prometheus.examine(source, rules, REMEDIES, time.time())
    except UnreachableError as error:
        yield problem("prometheus", str(error), "`./task up`, or `./task logs -- prometheus`")
    yield from _receivers(settings)
    yield from _grafana(settings, boards)


def _receivers(settings: Settings) -> Iterator[Finding]:
    try:
        answer = ask(settings.url("ALERTMANAGER_PORT", "/api/v2/status"))
    except UnreachableError as error:
        yield unknown("receivers", f"no Alertmanager to ask: {error}")
        return
    yield from prometheus.receivers(json.loads(answer.body)["config"]["original"], REMEDIES)


def _model(settings: Settings) -> Iterator[Finding]:
    try:
        answer = ask(settings.url("MODEL_PORT", "/readyz"))
    except UnreachableError as error:
        yield problem("model", str(error), "`./task up`, or `./task logs -- model`")
        return
    yield ok("model", "is ready")
    if answer.clock is not None:
        yield from prometheus.clocks({"the model": answer.clock}, time.time(), REMEDIES.clock)


def _version(settings: Settings) -> Iterator[Finding]:
    """Compare the version that runs with the bundle that was built, where there are both."""
    built, running = traffic.built_version(settings), probe.running_version(settings)
    if built and running:
        found = [problem("version", f"{running} runs, {built} was built", traffic.switch())]
        yield from or_ok(found if built != running else [], "version", f"{running} runs, as built")


def _grafana(settings: Settings, boards: Path) -> Iterator[Finding]:
    base = settings.url("GRAFANA_PORT")
    try:
        ask(f"{base}/api/health")
    except UnreachableError as error:
        yield unknown("dashboards", f"no Grafana to ask: {error}")
        return
    password = _password(settings)
    if password is None:
        remedy = "give GF_SECURITY_ADMIN_PASSWORD; `./task status` shows it"
        yield unknown("dashboards", "Grafana's password is not known here", remedy)
        return
    uids = [json.loads(path.read_text())["uid"] for path in sorted(boards.glob("*.json"))]
    yield from or_ok(
        _missing_dashboards(base, password, uids), "dashboards", f"{', '.join(uids)} are in Grafana"
    )


def _missing_dashboards(base: str, password: str, uids: list[str]) -> Iterator[Finding]:
    for uid in uids:
        try:
            ask(f"{base}/api/dashboards/uid/{uid}", password)
        except UnreachableError as error:
            remedy = "`./task logs -- grafana` shows what it could not provision"
            yield problem("dashboards", f"{uid} is not there: {error}", remedy)


def _password(settings: Settings) -> str | None:
    """Return the administrator's password: the given one, else the native stack's own."""
    given = settings.environment.get("GF_SECURITY_ADMIN_PASSWORD")
    file = settings.var / "grafana" / "admin-password"
    return given or (file.read_text().strip() if file.is_file() else None)
