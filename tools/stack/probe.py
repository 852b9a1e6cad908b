"""Ask the services for their state."""

import http.client
import json
import re
import urllib.request
from typing import Any
from urllib.parse import urlencode

from tools.stack.services import Service
from tools.stack.settings import Settings

# A proxy of the environment has no business between this machine and itself.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ready(settings: Settings, service: Service) -> bool:
    """Return whether a service can work and shows its metrics."""
    urls = [settings.url(service.port, service.ready)]
    if service.metrics_port:
        urls.append(settings.url(service.metrics_port, service.metrics_path))
    return all(_get(url) is not None for url in urls)


def targets(settings: Settings) -> dict[str, str]:
    """Return each job's health in Prometheus: up, down, or unknown before its first scrape."""
    body = _get(settings.url("PROMETHEUS_PORT", "/api/v1/targets?state=active"))
    active = json.loads(body)["data"]["activeTargets"] if body else []
    return {target["labels"]["job"]: target["health"] for target in active}


def query(settings: Settings, expression: str) -> list[dict[str, Any]]:
    """Return the samples of an instant query; none where Prometheus does not answer."""
    path = f"/api/v1/query?{urlencode({'query': expression})}"
    body = _get(settings.url("PROMETHEUS_PORT", path))
    found: list[dict[str, Any]] = json.loads(body)["data"]["result"] if body else []
    return found


def running_version(settings: Settings) -> str | None:
    """Return the version that the model serves; None where it does not answer."""
    body = _get(settings.url("MODEL_PORT", "/"))
    try:
        return str(json.loads(body)["version"]) if body else None
    except (ValueError, TypeError, KeyError):  # another program has this port
        return None


def reloads(settings: Settings) -> dict[str, float]:
    """Return how many reloads the model counted, by outcome; none where it does not answer."""
    body = _get(settings.url("MODEL_METRICS_PORT", "/metrics")) or b""
    found = re.findall(
        r'^service_reloads_total\{outcome="(\w+)"\} (\S+)$', body.decode(), re.MULTILINE
    )
    return {outcome: float(value) for outcome, value in found}


def page(settings: Settings) -> str | None:
    """Return the address of the model's own page of links, where the service has one."""
    url = settings.url("MODEL_METRICS_PORT", "/")
    return url if _get(url) is not None else None


def _get(url: str) -> bytes | None:
    """Return the body of a 2xx answer; anything else is None."""
    try:
        with _OPENER.open(url, timeout=5) as answer:
            body: bytes = answer.read()
            return body
    except (OSError, http.client.HTTPException):  # refused, reset, 4xx, 5xx, cut short
        return None
