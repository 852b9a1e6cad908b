"""Downloads from a local server in the place of the release pages."""

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.releases import Page, archive, running_page
from tools.stack import download, releases

PROMETHEUS = {"prometheus": "#!/bin/sh\necho prometheus\n", "promtool": "#!/bin/sh\n"}
GRAFANA = {"bin/grafana": "#!/bin/sh\n", "conf/defaults.ini": "x\n"}


@pytest.fixture(name="page")
def _page() -> Iterator[Page]:
    with running_page() as page:
        yield page


@pytest.fixture(name="environment")
def _environment(page: Page, tmp_path: Path) -> dict[str, str]:
    return {**page.settings, "XDG_CACHE_HOME": str(tmp_path / "cache")}


def _files(environment: dict[str, str]) -> set[str]:
    cache = releases.cache(environment)
    return {str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()}


def test_a_release_is_unpacked_into_the_cache(page: Page, environment: dict[str, str]) -> None:
    """Of Prometheus the one program, of Grafana all; nothing else is left in the cache."""
    page.add("prometheus", PROMETHEUS, environment)
    page.add("grafana", GRAFANA, environment)

    assert download.fetch(["prometheus", "grafana"], environment) == {}

    names = {name: releases.release(name, environment).name for name in ("prometheus", "grafana")}
    assert _files(environment) == {
        f"{names['prometheus']}/prometheus",
        *(f"{names['grafana']}/{file}" for file in GRAFANA),
    }
    assert releases.cached("prometheus", environment)
    assert releases.cached("grafana", environment)


def test_a_wrong_checksum_is_rejected(page: Page, environment: dict[str, str]) -> None:
    """The reason names the archive and both hashes, and nothing stays."""
    path = page.add("prometheus", PROMETHEUS, environment)
    page.bodies[path] = archive("evil", PROMETHEUS)

    failed = download.fetch(["prometheus"], environment)

    found = hashlib.sha256(page.bodies[path]).hexdigest()
    name = path.rpartition("/")[2]
    assert failed["prometheus"].startswith(f"{name} has SHA-256 {found}, not ")
    assert _files(environment) == set()


def test_a_pin_counts_more_than_what_the_page_publishes(
    page: Page, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that publishes another archive with a fitting checksum does not get through."""
    path = page.add("prometheus", PROMETHEUS, environment)
    monkeypatch.setitem(releases.PINS, path.rpartition("/")[2], "0" * 64)

    failed = download.fetch(["prometheus"], environment)

    assert f"not {'0' * 64}" in failed["prometheus"]
    assert [name for name in page.asked if "sha256sums" in name] == []


def test_half_a_download_is_no_program(page: Page, environment: dict[str, str]) -> None:
    """A connection that breaks off is named with what arrived, and nothing stays."""
    page.cut.add(path := page.add("prometheus", PROMETHEUS, environment))

    failed = download.fetch(["prometheus"], environment)

    whole = len(page.bodies[path])
    assert f" of {whole} bytes" in failed["prometheus"] or "broke off" in failed["prometheus"]
    assert _files(environment) == set()


def test_a_missing_release_is_named_with_its_address(
    page: Page, environment: dict[str, str]
) -> None:
    """The answer's status is part of the reason; the other programs are still fetched."""
    page.add("prometheus", PROMETHEUS, environment)

    failed = download.fetch(["prometheus", "alertmanager"], environment)

    assert list(failed) == ["alertmanager"]
    assert failed["alertmanager"] == (
        f"{page.url}/prometheus/alertmanager/releases/download/v99.1.2/sha256sums.txt"
        " answers with status 404"
    )


def test_a_checksum_file_without_the_archive_is_named(
    page: Page, environment: dict[str, str]
) -> None:
    """An archive that nobody vouches for is not downloaded."""
    path = page.add("prometheus", PROMETHEUS, environment)
    checksums = path.rpartition("/")[0] + "/sha256sums.txt"
    page.bodies[checksums] = b"0123  other.tar.gz\n"

    failed = download.fetch(["prometheus"], environment)

    assert "has no checksum of prometheus-" in failed["prometheus"]
    assert page.asked == [checksums]


def test_no_room_is_noticed_before_the_download(
    page: Page, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason says what is needed and what is free."""
    page.add("prometheus", PROMETHEUS, environment)
    monkeypatch.setattr(download, "_DISK_FACTOR", 10**13)

    failed = download.fetch(["prometheus"], environment)

    assert " MB and has " in failed["prometheus"]


@pytest.fixture(name="silent")
def _silent() -> Iterator[str]:
    """Yield an address whose server accepts no connection and rejects none: its queue is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        filling = [socket.socket() for _ in range(8)]
        for each in filling:
            each.setblocking(False)  # noqa: FBT003
            each.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        for each in filling:
            each.close()


def test_a_network_that_swallows_everything_is_given_up(
    silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither site keeps the other waiting, and each reason names the limit."""
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.5)
    environment = {**dict.fromkeys(releases.SITES, silent), "XDG_CACHE_HOME": str(tmp_path)}

    failed = download.fetch([*releases.VERSIONS], environment)

    assert set(failed) == set(releases.VERSIONS)
    assert all(reason.endswith("does not answer within 0.5 s") for reason in failed.values())


def test_the_limit_is_three_seconds() -> None:
    """A machine without network is not kept waiting for longer."""
    assert download.CONNECT_SECONDS <= 3


def test_a_port_that_nobody_listens_on_is_given_up_at_once(tmp_path: Path) -> None:
    """The reason is the system's own."""
    environment = {"GITHUB_URL": "http://127.0.0.1:9", "XDG_CACHE_HOME": str(tmp_path)}

    failed = download.fetch(["prometheus"], environment)

    assert failed["prometheus"].startswith("127.0.0.1:9: ")
    assert "refused" in failed["prometheus"]
