"""wrk as a closed-loop load generator: the maximum throughput on a number of connections."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import BenchError

CONNECTIONS = 16

# Sends the bodies in turn. wrk calls `done` with latencies in µs and errors by kind.
_SCRIPT = """
local requests = {}
local turn = 0
function init()
  for body in io.lines("%(bodies)s") do
    requests[#requests + 1] = wrk.format("%(method)s", nil, %(headers)s, body)
  end
end
function request()
  turn = turn %% #requests + 1
  return requests[turn]
end
%(delay)s
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests": %%d, "microseconds": %%d, "rejected": %%d, "failed": %%d, "p50": %%f}\\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50)))
end
"""


@dataclass(frozen=True)
class Throughput:
    """Requests per second, and the median latency in seconds."""

    rate: float
    p50: float


@dataclass(frozen=True)
class Request:
    """A URL, and the bodies that are sent to it in turn; no body may contain a line feed."""

    url: str
    bodies: Sequence[bytes] = (b"",)
    method: str = "POST"


def wrk(request: Request, seconds: int, connections: int = CONNECTIONS) -> Throughput:
    """Send requests for some seconds. Raises BenchError unless every response is 2xx."""
    with running_wrk(request, seconds, connections) as process:
        output, _ = process.communicate()
    return parse(output.decode())


@contextmanager
def running_wrk(
    request: Request,
    seconds: int,
    connections: int = CONNECTIONS,
    pause_ms: int = 0,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run wrk while the block runs, at most for some seconds.

    Each connection pauses for `pause_ms` before a request.
    """
    options = ["-t", "1", "-c", str(connections), "-d", f"{seconds}s"]
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "requests.lua"
        script.write_text(_script(request, script.with_suffix(".bodies"), pause_ms))
        argv = ["wrk", *options, "--script", str(script), request.url]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            try:
                yield process
            finally:
                process.kill()


def parse(output: str) -> Throughput:
    """Return the results that the script printed at the end of wrk's output. Raises BenchError."""
    try:
        found = json.loads(output.strip().splitlines()[-1])
        rejected, failed = found["rejected"], found["failed"]
    except (IndexError, ValueError, TypeError, KeyError):
        raise BenchError(f"unexpected output of wrk: {output.strip() or 'none'}") from None
    if rejected or failed or not found["requests"]:
        raise BenchError(
            f"of {found['requests']} requests, {rejected} were not answered with 2xx"
            f" and {failed} failed"
        )
    return Throughput(found["requests"] / found["microseconds"] * 1e6, found["p50"] / 1e6)


def _script(request: Request, bodies: Path, pause_ms: int) -> str:
    bodies.write_bytes(b"".join(body + b"\n" for body in request.bodies))
    return _SCRIPT % {
        "bodies": bodies,
        "method": request.method,
        "headers": '{["Content-Type"] = "application/json"}',
        "delay": f"function delay() return {pause_ms} end" if pause_ms else "",
    }
