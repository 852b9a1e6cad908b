"""What lies between the publisher and Fiddler, and what the publisher leaves in files and logs."""

import ssl
import subprocess
from pathlib import Path

import pytest

from tests.support.machine import free_port, require
from tests.support.publisher import accepted, publishing, require_client, start_writer
from tools.fiddler_stand_in import Fault, Fiddler, first_requests, running_fiddler


@pytest.fixture(name="spool")
def _spool(tmp_path: Path) -> Path:
    """Return a spool of 5 batches."""
    require_client()
    spool = tmp_path / "spool"
    spool.mkdir()
    assert start_writer(spool, "writer", tmp_path, batches=5).wait() == 0
    return spool


def _check_arrived(fiddler: Fiddler, directory: Path) -> None:
    assert fiddler.store.all_events().keys() == accepted(directory)[0]


def test_the_environments_proxy_is_used(tmp_path: Path, spool: Path) -> None:
    """A host that only the proxy knows is reached through it."""
    with running_fiddler() as proxy:
        settings = {"HTTP_PROXY": proxy.url, "NO_PROXY": "localhost"}
        with publishing(spool, "http://fiddler.invalid", tmp_path / "log", **settings) as publisher:
            publisher.until_idle()
        _check_arrived(proxy, tmp_path)


def test_a_host_without_proxy_is_reached_directly(tmp_path: Path, spool: Path) -> None:
    """NO_PROXY excepts it from a proxy that does not answer."""
    with running_fiddler() as fiddler:
        settings = {"HTTP_PROXY": f"http://127.0.0.1:{free_port()}", "NO_PROXY": "127.0.0.1"}
        with publishing(spool, fiddler.url, tmp_path / "log", **settings) as publisher:
            publisher.until_idle()
        _check_arrived(fiddler, tmp_path)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_private_certificate_authority_is_trusted(
    tmp_path: Path, spool: Path, variable: str
) -> None:
    """Without its certificate the publisher does not connect; with it, everything arrives."""
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    _make_certificate(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with running_fiddler(tls=context) as fiddler:
        with publishing(spool, fiddler.url, tmp_path / "without.log") as publisher:
            publisher.until("it fails", "publisher_failures_total", cause="connection")
            assert "CERTIFICATE_VERIFY_FAILED" in publisher.program.output()
        assert fiddler.store.counts["requests"] == 0
        # This machine may have authorities of its own.
        trusting = {"REQUESTS_CA_BUNDLE": "", "SSL_CERT_FILE": "", variable: str(certificate)}
        with publishing(spool, fiddler.url, tmp_path / "with.log", **trusting) as publisher:
            publisher.until_idle()
        _check_arrived(fiddler, tmp_path)


def _make_certificate(certificate: Path, key: Path) -> None:
    command = [require("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *files, *name], capture_output=True, check=True)


def test_no_value_of_a_row_is_logged_and_only_the_user_may_read_files(
    tmp_path: Path, spool: Path
) -> None:
    """Neither Fiddler's answers nor the client's debug output bring rows into the log."""
    secret = b"3.14159265"
    line = b'{"prediction_id":"%s","time":1764000000.25,"features":["%s",2.0],"prediction":5.5}\n'
    last = max(spool.glob("*.jsonl"))
    last.write_bytes(last.read_bytes() + line % (b"odd", secret) + b'{"features":[%s\n' % secret)
    with running_fiddler() as fiddler:
        fiddler.fault = first_requests(2, Fault("answer", 500, heading=secret.decode()))
        settings = {"PUBLISHER_LOG_LEVEL": "DEBUG"}
        with publishing(spool, fiddler.url, tmp_path / "log", **settings) as publisher:
            publisher.until_idle()
            publisher.until("both", "publisher_quarantined_events_total", at_least=2)
            log = publisher.program.output()

    assert "server_error, retrying" in log
    assert "a prediction was rejected (422)" in log
    assert "FIDDLER_URL is http" in log
    assert secret.decode() not in log
    assert secret in (spool / "quarantine" / "rejected.jsonl").read_bytes()
    readable = {
        str(path.relative_to(spool)): oct(path.stat().st_mode & 0o777)
        for path in spool.rglob("*")
        if path.stat().st_mode & 0o077 and path.is_file()
    }
    assert readable == {}
