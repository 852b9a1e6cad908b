"""The server of the latest report."""

from pathlib import Path

import httpx
import pytest

from tests.support.servers import serving
from tools.report.errors import ReportError
from tools.report.server import Latest, server


class Renders:
    """Counts how often a page is rendered; fails as long as there is a reason."""

    def __init__(self) -> None:
        self.count = 0
        self.reason = ""

    def __call__(self) -> str:
        """Return the next page, or raise ReportError."""
        self.count += 1
        if self.reason:
            raise ReportError(self.reason)
        return f"page {self.count}"


def test_a_page_is_rendered_once_a_minute_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who asks again gets the same, and a new one when that is old."""
    now = [100.0]
    monkeypatch.setattr("tools.report.server.time.monotonic", lambda: now[0])
    latest = Latest(Renders(), tmp_path / "report" / "index.html")

    first, second = latest.page(), latest.page()
    now[0] += 61
    third = latest.page()

    assert (first, second, third) == ("page 1", "page 1", "page 2")
    assert (tmp_path / "report" / "index.html").read_text() == "page 2"


def test_a_disk_that_is_full_takes_no_page_away(tmp_path: Path) -> None:
    """The copy for a mail is missing, and that is all."""
    (tmp_path / "report").write_text("in the way")

    assert Latest(Renders(), tmp_path / "report" / "index.html").page() == "page 1"


def test_the_server_says_why_there_is_no_report(tmp_path: Path) -> None:
    """It is alive while Prometheus is not, escapes the reason, and recovers."""
    renders = Renders()
    renders.reason = "http://prometheus <does not answer>"
    with serving(server(("127.0.0.1", 0), Latest(renders, tmp_path / "index.html"))) as running:
        url = f"http://127.0.0.1:{running.server_address[1]}"
        health = httpx.get(f"{url}/healthz")
        failed = httpx.get(url)
        renders.reason = ""
        page = httpx.get(f"{url}/?still")
        other = httpx.get(f"{url}/elsewhere")

    assert (health.status_code, health.text) == (200, "ok\n")
    assert failed.status_code == 503
    assert "http://prometheus &lt;does not answer&gt;" in failed.text
    assert (page.status_code, page.text) == (200, "page 2")
    assert page.headers["Cache-Control"] == "no-store"
    assert other.status_code == 404
