"""Ask the other replicas' publishers how far they are, by their metrics."""

import http.client
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from math import inf

from prometheus_client.parser import text_string_to_metric_families

from publisher.errors import TransientError

SETTLED = "publisher_settled_timestamp_seconds"
_TIMEOUT = 5.0


@dataclass(frozen=True)
class Peers:
    """Replicas at `host:port`, comma separated; a host stands for all of its addresses.

    On Kubernetes the host is a headless Service, so its addresses are those of the pods.
    """

    addresses: str = ""

    def settled(self) -> float:
        """Return the earliest `settled` of all replicas (s since 1970), infinite if there are none.

        Raises TransientError: a replica that does not answer may hold predictions.
        """
        return min(map(_settled, _resolve(self.addresses)), default=inf)


def _resolve(addresses: str) -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    for address in filter(None, addresses.split(",")):
        host, _, port = address.strip().rpartition(":")
        try:
            entries = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            raise TransientError("peer", f"{host}: {error.strerror}") from error
        found |= {(str(entry[4][0]), int(entry[4][1])) for entry in entries}
    return found


def _settled(address: tuple[str, int]) -> float:
    host, port = address
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
    # Without the environment's proxy, which does not reach pods.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_TIMEOUT) as answer:
            text = answer.read().decode()
        families = {each.name: each for each in text_string_to_metric_families(text)}
        return float(families[SETTLED].samples[0].value)
    except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
        raise TransientError("peer", f"{url} does not answer: {error!r}") from error
