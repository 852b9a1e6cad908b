"""The page at `/` of the metrics port: the model, and links to what else runs."""

from collections.abc import Mapping
from html import escape
from urllib.parse import urlsplit

from bundle.manifest import Manifest

# The environment variables that say where the other services are, for a person's browser.
LINKED = {
    "PROMETHEUS_URL": "Prometheus",
    "ALERTMANAGER_URL": "Alertmanager",
    "GRAFANA_URL": "Grafana",
    "LOCUST_URL": "locust",
}
# Where the API is. Without it: where the page is, on the API's own port.
MODEL_URL = "MODEL_URL"

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>{name}</title>
<style>
body {{ font: 1rem/1.6 system-ui, sans-serif; margin: 3rem auto; max-width: 36rem }}
small {{ color: #666 }}
</style>
<h1>{name}</h1>
<p>Version {version}. Predicts {target}.</p>
<ul>
{links}
</ul>
"""


def render(manifest: Manifest, host: str, api_port: int, environment: Mapping[str, str]) -> bytes:
    """Return the page for a request with the header `Host: host`."""
    api = _url(environment, MODEL_URL) or f"http://{_name(host)}:{api_port}"
    links = {"API documentation": f"{api}/docs", "Metrics": "/metrics"} | {
        title: url for name, title in LINKED.items() if (url := _url(environment, name))
    }
    page = _PAGE.format(
        name=escape(manifest.name),
        version=escape(manifest.version),
        target=escape(manifest.target.name),
        links="\n".join(_item(*each) for each in links.items()),
    )
    return page.encode()


def _item(title: str, url: str) -> str:
    return f'<li><a href="{escape(url)}">{escape(title)}</a> <small>{escape(url)}</small>'


def _url(environment: Mapping[str, str], name: str) -> str:
    """Return the web address that a variable holds, empty if it holds none."""
    url = environment.get(name, "").strip().rstrip("/")
    return url if url.startswith(("http://", "https://")) else ""


def _name(host: str) -> str:
    """Return the name or address in a `Host` header, as a URL has it."""
    try:
        name = urlsplit(f"//{host}").hostname or "127.0.0.1"
    except ValueError:
        return "127.0.0.1"
    return f"[{name}]" if ":" in name else name
