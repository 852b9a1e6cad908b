"""The names and places of the official releases."""

import platform
from pathlib import Path

import pytest

from tools.stack import releases
from tools.stack.settings import StackError


@pytest.mark.parametrize(
    ("system", "machine", "named"),
    [
        ("Linux", "x86_64", "linux-amd64"),
        ("Linux", "aarch64", "linux-arm64"),
        ("Darwin", "x86_64", "darwin-amd64"),
        ("Darwin", "arm64", "darwin-arm64"),
    ],
)
def test_archives_are_named_after_system_and_processor(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, named: str
) -> None:
    """Releases say darwin and amd64 where the machine says Darwin and x86_64."""
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)

    prometheus = releases.release("prometheus", {})
    grafana = releases.release("grafana", {})

    version = releases.VERSIONS["prometheus"]
    assert prometheus.archive == f"prometheus-{version}.{named}.tar.gz"
    assert prometheus.site.endswith(f"/prometheus/prometheus/releases/download/v{version}")
    assert prometheus.checksums == "sha256sums.txt"
    assert grafana.archive == f"grafana-{releases.VERSIONS['grafana']}.{named}.tar.gz"
    assert grafana.checksums == f"{grafana.archive}.sha256"


def test_a_machine_without_releases_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to download for an unknown processor, and nothing in its cache."""
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")

    with pytest.raises(StackError, match=r"^there are no releases for \w+ on pdp11$"):
        releases.release("prometheus", {})

    assert releases.cached("prometheus", {}) is None


def test_a_mirror_must_be_a_web_address() -> None:
    """A path or another scheme is rejected with its variable."""
    with pytest.raises(StackError, match=r"^GITHUB_URL=file:///x is not an address"):
        releases.release("prometheus", {"GITHUB_URL": "file:///x"})


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_CACHE_HOME names it, else it lies in the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))

    assert releases.cache({}) == tmp_path / ".cache" / "ml-monitoring"
    assert releases.cache({"XDG_CACHE_HOME": "/c"}) == Path("/c/ml-monitoring")


def test_every_pin_is_a_sha256_of_a_version_that_is_fetched() -> None:
    """A new version without new pins falls back to its own checksums, not to old pins."""
    current = {f"{name}-{version}" for name, version in releases.VERSIONS.items()}

    for archive, checksum in releases.PINS.items():
        assert any(archive.startswith(f"{name}.") for name in current), archive
        assert len(bytes.fromhex(checksum)) == 32
