"""The services, in flow order, and where a person or a probe finds them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tools.stack.settings import Settings


@dataclass(frozen=True)
class Service:
    """One service: its name is its program, its container and its Prometheus job."""

    name: str
    port: str
    """The variable that holds the port one opens in a browser."""
    ready: str
    """The path that answers 200 once the service can work."""
    metrics_port: str = ""
    """The variable of the port that Prometheus scrapes; empty where it does not."""
    metrics_path: str = "/metrics"
    pages: Sequence[tuple[str, str]] = ()
    """Further pages worth knowing, as (what it is, path)."""

    @property
    def ports(self) -> tuple[str, ...]:
        """The variables of all ports the service listens on."""
        return tuple(dict.fromkeys(filter(None, (self.port, self.metrics_port))))


SERVICES = (
    Service(
        "model", "MODEL_PORT", "/readyz", "MODEL_METRICS_PORT", pages=[("model docs", "/docs")]
    ),
    Service("locust", "LOCUST_PORT", "/", "LOCUST_METRICS_PORT"),
    # Where there is a FIDDLER_URL.
    Service("publisher", "PUBLISHER_METRICS_PORT", "/metrics", "PUBLISHER_METRICS_PORT"),
    # Where there is a PREDICTION_LOG.
    Service(
        "prediction-log",
        "PREDICTION_LOG_METRICS_PORT",
        "/metrics",
        "PREDICTION_LOG_METRICS_PORT",
    ),
    Service("prometheus", "PROMETHEUS_PORT", "/-/ready", "PROMETHEUS_PORT"),
    Service("alertmanager", "ALERTMANAGER_PORT", "/-/ready", "ALERTMANAGER_PORT"),
    Service("grafana", "GRAFANA_PORT", "/api/health", "GRAFANA_PORT"),
)
# The native stack mostly has no Grafana, so it serves the dashboards as a page of its own.
REPORT = Service("report", "REPORT_PORT", "/healthz")
NATIVE = (*SERVICES, REPORT)


def service(name: str) -> Service:
    """Return the service called `name`."""
    return next(service for service in NATIVE if service.name == name)


def addresses(settings: Settings, names: Iterable[str]) -> list[tuple[str, str]]:
    """Return (what it is, URL) for every page of the services that run."""
    rows: list[tuple[str, str]] = []
    for one in map(service, names):
        rows.append((one.name, settings.url(one.port)))
        rows += [(what, settings.url(one.port, path)) for what, path in one.pages]
        if one.metrics_port:
            rows.append((f"{one.name} metrics", settings.url(one.metrics_port, one.metrics_path)))
    return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in cells)
