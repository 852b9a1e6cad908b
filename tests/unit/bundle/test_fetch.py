"""A bundle from an https address: checked by its hash, unpacked safely, and as a whole."""

import gc
import gzip
import hashlib
import io
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bundle import fetch as module
from bundle.fetch import FetchError, fetch
from tests.support.servers import serving
from tools import archive

# The standard library's client leaves some sockets of rejected answers to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

FILES = {"bundle.json": b"{}", "model.joblib": b"a pickle"}
SIGNATURE = "?X-Amz-Signature=s3cret"

Answer = Callable[[BaseHTTPRequestHandler], None]


class Store(ThreadingHTTPServer):
    """An object store that gives the next of its answers to each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = []
        self.requests = 0

    @property
    def url(self) -> str:
        """Return a signed address."""
        return f"http://127.0.0.1:{self.server_port}/bundles/my.tar.gz{SIGNATURE}"


class _Handler(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        self.server.requests += 1
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def sends(content: bytes, length: int | None = None) -> Answer:
    """Return an answer with a body, and possibly another length in its header."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def says(status: int, **headers: str) -> Answer:
    """Return an answer without a body."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.fixture(name="store")
def _store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Return a store without TLS, which is the standard library's."""
    monkeypatch.setattr(module, "_SCHEME", "http")
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0)
    with serving(Store()) as store:
        yield store
    gc.collect()


def tar(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    """Return a .tar.gz of files, and of members without content."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as found,
    ):
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            found.addfile(member, io.BytesIO(content))
        for member in more:
            found.addfile(member)
    return buffer.getvalue()


def zipped(files: dict[str, bytes], mode: int = stat.S_IFREG) -> bytes:
    """Return a .zip of files of a kind."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as found:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            found.writestr(info, content)
    return buffer.getvalue()


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """Return a link, a device or the like."""
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


def sha256(content: bytes) -> str:
    """Return a hash."""
    return hashlib.sha256(content).hexdigest()


def content(directory: Path) -> dict[str, bytes]:
    """Return the files of a directory."""
    return {each.name: each.read_bytes() for each in directory.iterdir()}


def failure(store: Store, sent: bytes, directory: Path, *, limit: int = 10_000) -> str:
    """Return the one line with which an archive is rejected; nothing is left of it."""
    store.answers = store.answers or [sends(sent)]
    with pytest.raises(FetchError) as failed:
        fetch(store.url, sha256(sent), directory / "bundle", limit)
    assert [*directory.iterdir()] == []
    assert "s3cret" not in str(failed.value)
    assert len(str(failed.value).splitlines()) == 1
    return str(failed.value)


@pytest.mark.parametrize(
    "archived",
    [
        tar(FILES),
        zipped(FILES),
        tar({f"./{name}": each for name, each in FILES.items()}),
        tar({f"my-bundle/{name}": each for name, each in FILES.items()}),
        zipped({f"my-bundle/{name}": each for name, each in FILES.items()}),
    ],
    ids=["tar.gz", "zip", "tar.gz with ./", "tar.gz of a directory", "zip of a directory"],
)
def test_an_archive_is_unpacked(archived: bytes, store: Store, tmp_path: Path) -> None:
    """And takes the place of an older one."""
    store.answers = [sends(archived)]
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old").touch()
    fetch(store.url, sha256(archived), tmp_path / "bundle")

    assert content(tmp_path / "bundle") == FILES
    assert [each.name for each in tmp_path.iterdir()] == ["bundle"]


def test_another_hash_is_rejected_before_anything_is_unpacked(store: Store, tmp_path: Path) -> None:
    """The line has both hashes."""
    store.answers = [sends(tar({"../evil": b""}))]
    with pytest.raises(
        FetchError, match=f"SHA-256 is {sha256(tar({'../evil': b''}))[:9]}.*, not 00"
    ):
        fetch(store.url, "0" * 64, tmp_path / "bundle")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("sha", ["", "abc", "g" * 64, "A" * 64])
def test_without_a_hash_nothing_is_downloaded(sha: str, store: Store, tmp_path: Path) -> None:
    """It is required."""
    with pytest.raises(FetchError, match="MODEL_BUNDLE_SHA256 must be"):
        fetch(store.url, sha, tmp_path / "bundle")
    assert store.requests == 0


@pytest.mark.parametrize("url", ["https://127.0.0.1:1/x", "ftp://127.0.0.1/x"])
def test_a_redirect_to_something_else_is_rejected(url: str, store: Store, tmp_path: Path) -> None:
    """Before it is followed."""
    store.answers = [says(302, Location=url)]

    assert "redirects to" in failure(store, b"", tmp_path)


def test_a_redirect_with_the_same_scheme_is_followed(store: Store, tmp_path: Path) -> None:
    """As object stores do between regions."""
    store.answers = [says(307, Location=store.url), sends(tar(FILES))]
    fetch(store.url, sha256(tar(FILES)), tmp_path / "bundle")

    assert content(tmp_path / "bundle") == FILES


def test_a_broken_connection_is_tried_again(store: Store, tmp_path: Path) -> None:
    """So is an overloaded server, three times in all."""
    whole = tar(FILES)
    store.answers = [sends(whole[:-9], len(whole)), says(503), sends(whole)]
    fetch(store.url, sha256(whole), tmp_path / "bundle")

    assert store.requests == 3
    assert content(tmp_path / "bundle") == FILES


def test_a_truncated_archive_is_rejected(store: Store, tmp_path: Path) -> None:
    """Whether the connection breaks each time, or the archive itself is cut."""
    whole = tar(FILES)
    store.answers = [sends(whole[:-9], len(whole))]
    assert f"ends after {len(whole) - 9} of {len(whole)} bytes" in failure(store, whole, tmp_path)
    store.answers = [sends(whole[:99])]
    assert "cannot be unpacked" in failure(store, whole[:99], tmp_path)


def test_an_expired_address_is_reported_at_once(store: Store, tmp_path: Path) -> None:
    """With the address but without its signature."""
    store.answers = [says(403)]

    assert "/bundles/my.tar.gz: HTTP 403" in failure(store, b"", tmp_path)
    assert store.requests == 1


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "a/../../evil", "a/b/c", "..", ".hidden", "a\\b", "a/.", "x\n"],
)
@pytest.mark.parametrize("form", [tar, zipped])
def test_a_path_that_is_no_files_name_is_rejected(
    name: str, form: Callable[[dict[str, bytes]], bytes], store: Store, tmp_path: Path
) -> None:
    """Nothing is written outside, and nothing in deeper directories."""
    (tmp_path / "inside").mkdir()

    assert "the path" in failure(store, form({**FILES, name: b"x"}), tmp_path / "inside")
    assert [each.name for each in tmp_path.iterdir()] == ["inside"]


@pytest.mark.parametrize(
    "link",
    [
        member("model.joblib", tarfile.SYMTYPE, "/etc/passwd"),
        member("model.joblib", tarfile.LNKTYPE, "bundle.json"),
        member("model.joblib", tarfile.CHRTYPE),
        member("model.joblib", tarfile.FIFOTYPE),
    ],
    ids=["symbolic link", "hard link", "device", "pipe"],
)
def test_links_and_devices_are_rejected(
    link: tarfile.TarInfo, store: Store, tmp_path: Path
) -> None:
    """Only regular files are unpacked."""
    packed = tar({"bundle.json": b"{}"}, link)

    assert "not a regular file" in failure(store, packed, tmp_path)


def test_a_link_in_a_zip_is_rejected(store: Store, tmp_path: Path) -> None:
    """Its content would be a path."""
    packed = zipped({"model.joblib": b"/etc/passwd"}, stat.S_IFLNK)

    assert "not a regular file" in failure(store, packed, tmp_path)


@pytest.mark.parametrize("form", [tar, zipped])
def test_huge_files_are_not_unpacked(
    form: Callable[[dict[str, bytes]], bytes], store: Store, tmp_path: Path
) -> None:
    """A million zeros are a few bytes in the archive."""
    bomb = form({"bundle.json": b"{}", "zeros": bytes(1_000_000)})
    assert len(bomb) < 10_000
    assert "more than 10,000 bytes" in failure(store, bomb, tmp_path)


def test_a_huge_archive_is_not_downloaded(store: Store, tmp_path: Path) -> None:
    """Whatever its header says; the rest of it is not read."""
    store.answers = [sends(bytes(20_000))]

    assert "more than 10,000 bytes" in failure(store, b"", tmp_path)


def test_many_files_are_rejected(store: Store, tmp_path: Path) -> None:
    """A bundle has ten."""
    packed = tar({f"file{number}": b"" for number in range(101)})

    assert "over 100 files" in failure(store, packed, tmp_path)


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (b"no archive", "cannot be unpacked"),
        (tar({"other.json": b""}), "has no bundle.json"),
        (tar({"bundle.json": b"", "a/bundle.json": b""}), "twice this name"),
    ],
)
def test_what_is_no_bundle_is_rejected(
    packed: bytes, reason: str, store: Store, tmp_path: Path
) -> None:
    """With the reason."""
    assert reason in failure(store, packed, tmp_path)


def test_the_command_takes_the_address_from_the_environment(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As in the init container: one line and exit status 1, or a bundle; never the address."""
    packed = tar(FILES)
    store.answers = [sends(packed)]
    monkeypatch.setattr(sys, "argv", ["fetch", str(tmp_path / "bundle")])
    monkeypatch.setenv("MODEL_BUNDLE_URL", store.url)
    monkeypatch.setenv("MODEL_BUNDLE_SHA256", "0" * 64)
    with pytest.raises(SystemExit, match=r"^fetch: the archive's SHA-256 is "):
        module.main()

    monkeypatch.setenv("MODEL_BUNDLE_SHA256", sha256(packed).upper())
    module.main()
    assert "s3cret" not in capsys.readouterr().out
    assert content(tmp_path / "bundle") == FILES


@pytest.mark.parametrize("url", ["", "http://127.0.0.1/x", "file:///etc/passwd", "s3://a/b"])
def test_only_https_is_used(url: str, tmp_path: Path) -> None:
    """Nor is a local file read."""
    with pytest.raises(FetchError, match="is not an https:// address"):
        fetch(url, "0" * 64, tmp_path / "bundle")


def test_an_archive_of_the_tool_is_deterministic_and_fetched(
    example_bundle: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two archives of a bundle have the same bytes, and what is unpacked is the bundle."""
    packed = tmp_path / "my.tar.gz"
    assert archive.main([str(example_bundle), str(packed)]) == 0
    printed = capsys.readouterr().out
    assert archive.pack(example_bundle) == packed.read_bytes()

    store.answers = [sends(packed.read_bytes())]
    sha = printed.partition("MODEL_BUNDLE_SHA256=")[2].strip()
    fetch(store.url, sha, tmp_path / "bundle")
    assert content(tmp_path / "bundle") == content(example_bundle)


def test_no_bundle_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the tool that packs one."""
    assert archive.main([str(tmp_path), str(tmp_path / "my.tar.gz")]) == 1
    assert capsys.readouterr().err.startswith(f"archive: no bundle at {tmp_path}")
