"""The dashboard tests' own reading of PromQL."""

import pytest

from tests.support.grafana import matched_labels, metric_names, ranges, substitute


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ('sum by (le) (rate(a_bucket{le="x b"}[5m]))', {"a_bucket"}),
        ("level:a:rate5m / ignoring (b) group_left (c) d", {"level:a:rate5m", "d"}),
        ("1e-9 * a offset 2m unless on () b > bool 0.1", {"a", "b"}),
        ("histogram_quantile(0.95, a) or vector(0)", {"a"}),
    ],
)
def test_metric_names_are_found(expr: str, names: set[str]) -> None:
    """Functions, keywords, labels, durations and strings are no series."""
    assert metric_names(expr) == names


def test_labels_and_ranges_are_found() -> None:
    """Labels belong to the series they select; ranges keep what stands in the brackets."""
    expr = 'rate(a{b="c", d!~"e=f"}[5m]) + b{g=~"h"} offset 1m + rate(a{i!=""}[$__range])'

    assert matched_labels(expr) == {"a": {"b", "d", "i"}, "b": {"g"}}
    assert ranges(expr) == ["5m", "$__range"]


def test_substitution_takes_the_longest_name() -> None:
    """$job does not eat the beginning of $jobs."""
    assert substitute("$jobs $job", {"job": "one", "jobs": "two"}) == "two one"
