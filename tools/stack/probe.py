"""Ask the services how they are."""

import http.client
import json
import urllib.request

from tools.stack.services import Service
from tools.stack.settings import Settings

# A proxy of the environment has no business between this machine and itself.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ready(settings: Settings, service: Service) -> bool:
    """Tell whether a service can work and shows its metrics."""
    urls = (
        settings.url(service.port, service.ready),
        settings.url(service.metrics_port, service.metrics_path),
    )
    return all(_get(url) is not None for url in urls)


def targets(settings: Settings) -> dict[str, str]:
    """Return Prometheus's word on each job: up, down, or unknown before its first scrape."""
    body = _get(settings.url("PROMETHEUS_PORT", "/api/v1/targets?state=active"))
    active = json.loads(body)["data"]["activeTargets"] if body else []
    return {target["labels"]["job"]: target["health"] for target in active}


def _get(url: str) -> bytes | None:
    """Return the body of a 2xx answer; anything else is None."""
    try:
        with _OPENER.open(url, timeout=5) as answer:
            body: bytes = answer.read()
            return body
    except (OSError, http.client.HTTPException):  # refused, reset, 4xx, 5xx, cut short
        return None
