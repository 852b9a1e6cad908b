"""The services share no code, so their histograms of latency are held equal here."""

from serving.metrics.http import LATENCY_BOUNDS
from traffic.exporter import BUCKETS


def test_both_ends_of_a_request_have_the_same_buckets() -> None:
    """A dashboard can compare the latency that clients see with the service's own."""
    assert BUCKETS == LATENCY_BOUNDS
