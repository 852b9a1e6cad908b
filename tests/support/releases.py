"""A local server in the place of the release pages of Prometheus, Alertmanager and Grafana."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tools.stack import releases

# No archive of this release is pinned, so the published checksum counts.
VERSION = "99.1.2"


@dataclass
class Page:
    """What the server has: bodies by path. A path in `cut` breaks off after half its bytes."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def settings(self) -> dict[str, str]:
        """The settings that lead `./task up` here."""
        versions = {f"{name.upper()}_RELEASE": VERSION for name in releases.VERSIONS}
        return {**dict.fromkeys(releases.SITES, self.url), **versions}

    def add(self, program: str, files: Mapping[str, str], environment: Mapping[str, str]) -> str:
        """Publish an archive of executable files with its checksum; return the archive's path."""
        release = releases.release(program, {**self.settings, **environment})
        content = archive(f"{program}-{VERSION}", files)
        path = release.site.removeprefix(self.url)
        checksum = hashlib.sha256(content).hexdigest()
        # Prometheus lists several files in one, Grafana has one file for each.
        line = (
            checksum
            if program == "grafana"
            else f"{'0' * 64}  other\n{checksum}  {release.archive}"
        )
        self.bodies[f"{path}/{release.archive}"] = content
        self.bodies[f"{path}/{release.checksums}"] = f"{line}\n".encode()
        return f"{path}/{release.archive}"


def archive(top: str, files: Mapping[str, str]) -> bytes:
    """Return a .tar.gz with one directory that holds executable files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mode = len(text.encode()), 0o755
            opened.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


@contextmanager
def running_page() -> Iterator[Page]:
    """Serve a page on a free port of 127.0.0.1."""
    page = Page()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(page))
    page.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield page
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(page: Page) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Send what the page has, or half of it."""
            page.asked.append(self.path)
            body = page.bodies.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            half = len(body or b"") // 2
            self.wfile.write((body or b"")[: half if self.path in page.cut else None])

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    return Handler
