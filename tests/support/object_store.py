"""An S3 server for tests: moto's, in a process and an environment of its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.client_environment import s3_environment
from tests.support.machine import free_port
from tests.support.processes import environment

SCRIPT = Path(__file__).with_name("s3_server.py")


class ObjectStore:
    """A bucket; `settings` are the environment of its clients."""

    def __init__(self, bucket: str) -> None:
        port = free_port()
        self.settings = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        self._process = subprocess.Popen(
            [s3_environment() / "bin" / "python", SCRIPT, str(port), bucket],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # every request
            env=environment({}),
            text=True,
        )
        self._expect("ready")

    def stop(self) -> None:
        """Close the port; objects stay."""
        self._do("stop")

    def start(self) -> None:
        """Open the port again."""
        self._do("start")

    def close(self) -> None:
        """End the server."""
        self._process.communicate(timeout=30)

    def _do(self, what: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        self._expect(what)

    def _expect(self, line: str) -> None:
        assert self._process.stdout
        assert self._process.stdout.readline() == f"{line}\n"


@contextmanager
def object_store(bucket: str) -> Iterator[ObjectStore]:
    """Run a server with a bucket while the block runs."""
    store = ObjectStore(bucket)
    try:
        yield store
    finally:
        store.close()
