"""The page at `/` of the metrics port."""

import re

import pytest

from serving.metrics.index import LINKED, render
from tests.support.bundles import make_manifest

MANIFEST = make_manifest()


def page(host: str = "127.0.0.1:8001", **environment: str) -> str:
    """Return the page for an API on port 8000."""
    return render(MANIFEST, host, 8000, environment).decode()


def links(text: str) -> list[str]:
    """Return where a page's links lead."""
    return re.findall(r'<a href="([^"]*)"', text)


def test_only_what_is_known_to_run_is_linked() -> None:
    """Without variables: the API on the page's own host, and the metrics."""
    assert links(page()) == ["http://127.0.0.1:8000/docs", "/metrics"]


def test_every_service_of_the_environment_is_linked() -> None:
    """In one order; MODEL_URL says where the API is."""
    environment = {name: f"http://host/{name}" for name in LINKED}

    assert links(page(MODEL_URL="https://model.example/", **environment)) == [
        "https://model.example/docs",
        "/metrics",
        *environment.values(),
    ]


@pytest.mark.parametrize(
    ("host", "api"),
    [
        ("localhost:8001", "http://localhost:8000"),
        ("model", "http://model:8000"),
        ("[::1]:8001", "http://[::1]:8000"),
        ("", "http://127.0.0.1:8000"),
        ("[", "http://127.0.0.1:8000"),
    ],
)
def test_the_api_is_on_the_host_that_was_asked(host: str, api: str) -> None:
    """Whatever name of this machine the browser used."""
    assert links(page(host))[0] == f"{api}/docs"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "", "  ", "127.0.0.1:3000", "file:///etc"])
def test_what_is_no_web_address_is_not_linked(url: str) -> None:
    """A variable that is empty or holds anything else."""
    assert len(links(page(GRAFANA_URL=url))) == 2


def test_everything_is_escaped() -> None:
    """Names, addresses and the client's own header."""
    evil = "<script>\"'&"
    manifest = MANIFEST.model_copy(
        update={"name": evil, "target": MANIFEST.target.model_copy(update={"name": evil})}
    )
    text = render(manifest, evil, 8000, {"GRAFANA_URL": f"http://{evil}"}).decode()

    assert "<script" not in text
    assert text.count('"') == page(GRAFANA_URL="http://x").count('"')


def test_nothing_is_loaded_from_elsewhere() -> None:
    """No script, image or style but those in the page, which is small."""
    text = page(**dict.fromkeys(LINKED, f"http://{'x' * 100}"))

    assert len(text) < 4000
    assert not re.findall(r"<(?:script|img|iframe)|url\(|@import", text)
    assert re.findall(r"<link[^>]*>", text) == ['<link rel="icon" href="data:,">']
