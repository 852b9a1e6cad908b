"""Panels as what the page draws, from the answers of a Prometheus that is none."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.report import Answers, at, over, panel, table
from tools.report.client import Series
from tools.report.context import Context
from tools.report.notes import Notes
from tools.report.views import view


def drawn(shape: dict[str, Any], answers: Mapping[str, list[Series]]) -> dict[str, Any]:
    """Return the view of a panel, of which nothing is unknown."""
    notes = Notes()
    seen = view(shape, Context(Answers(answers), {}, notes))
    assert notes == []
    return seen


def test_a_name_with_special_characters_survives_its_link() -> None:
    """A feature called `a&b=c` is one value of the link, and the runbook keeps its anchor."""
    links = [{"title": "Bins", "url": "/d/ml-drift?${job:queryparam}&var-feature=${__value.raw}"}]
    override = {
        "matcher": {"id": "byName", "options": "feature"},
        "properties": [{"id": "links", "value": links}],
    }
    shape = panel("table", [table("a")])
    shape["fieldConfig"]["overrides"] = [override]

    seen = drawn(shape, {"a": [at(1, feature="a&b=c")]})
    names = [column["name"] for column in seen["columns"]]

    assert seen["rows"][0][names.index("feature")]["href"] == "#ml-drift&feature=a%26b%3Dc"
    assert seen["rows"][0][names.index("feature")]["text"] == "a&b=c"

    links[0]["url"] = "/api/datasources/proxy/uid/prometheus/consoles/x.html#${__value.raw}"
    seen = drawn(shape, {"a": [at(1, feature="Alert")]})

    address = seen["rows"][0][names.index("feature")]["href"]
    assert address == "http://prometheus/consoles/x.html#Alert"


def test_columns_of_several_queries_come_together_sorted() -> None:
    """As in the table of signals: merged by label, the largest first, gaps last and blank."""
    shape = panel(
        "table",
        [table("a"), table("b", "B")],
        transformations=[{"id": "merge", "options": {}}],
        options={"sortBy": [{"displayName": "Value #B", "desc": True}]},
    )
    answers = {
        "a": [at(1, f="x"), at(2, f="y"), at(3, f="z")],
        "b": [at(5, f="z"), at(7, f="x")],
    }

    seen = drawn(shape, answers)

    at_f, at_b = (
        [column["name"] for column in seen["columns"]].index(name) for name in ("f", "Value #B")
    )
    assert [(row[at_f]["text"], row[at_b]["text"]) for row in seen["rows"]] == [
        ("x", "7"),
        ("z", "5"),
        ("y", ""),
    ]


LEGEND = {"placement": "bottom", "calcs": ["lastNotNull", "max"]}


def test_lines_share_one_grid_and_keep_their_gaps() -> None:
    """A scrape that failed is a gap, not a 0; figures of the legend leave it out."""
    shape = panel(
        "timeseries",
        [{"refId": "A", "expr": "a", "legendFormat": "{{f}}"}],
        options={"legend": LEGEND},
    )
    shape["fieldConfig"]["defaults"] |= {"color": {"mode": "palette-classic"}, "custom": {}}

    seen = drawn(shape, {"a": [over([1, 5, float("nan"), 2], f="x"), over([3], f="y")]})

    assert [line["name"] for line in seen["lines"]] == ["x", "y"]
    assert seen["lines"][0]["y"][:5] == [1, 5, None, 2, None]
    assert seen["lines"][0]["calcs"] == ["2", "5"]
    assert {len(line["y"]) for line in seen["lines"]} == {seen["grid"]["count"]} == {61}
    assert seen["lines"][0]["color"] != seen["lines"][1]["color"]


def test_states_that_last_become_one_bar() -> None:
    """Equal neighbours are merged; a gap stays open."""
    mapping = {"type": "value", "options": {"0": {"text": "none"}, "1": {"text": "drift"}}}
    shape = panel("state-timeline", [{"refId": "A", "expr": "a", "legendFormat": "{{f}}"}])
    shape["fieldConfig"]["defaults"]["mappings"] = [mapping]

    seen = drawn(shape, {"a": [over([0, 0, 1, float("nan"), 1], f="x")]})

    assert [(each["text"], each["span"]) for each in seen["states"]] == [
        ("none", [0, 120]),
        ("drift", [120, 180]),
        ("drift", [240, 300]),
    ]


def test_a_heatmap_counts_each_bucket_alone() -> None:
    """`le` counts those below as well, and the last bucket without a bound is left out."""
    shape = panel(
        "heatmap",
        [{"refId": "A", "expr": "a", "legendFormat": "{{le}}"}],
        options={
            "yAxis": {"unit": "s"},
            "cellValues": {"unit": "reqps"},
            "filterValues": {"le": 1e-9},
            "color": {"exponent": 1.0},
        },
    )
    answer = [over([9], le="+Inf"), over([7], le="0.3"), over([4], le="0.1"), over([4], le="0.2")]

    seen = drawn(shape, {"a": answer})

    assert seen["buckets"] == ["100 ms", "200 ms", "300 ms"]
    assert [row[0] for row in seen["z"]] == [4, None, 3]


STAT = {
    "graphMode": "area",
    "textMode": "auto",
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
}


def test_a_sparkline_has_a_floor() -> None:
    """99.95 % of a scale from 0 to 1 is near the top, not on the floor."""
    shape = panel("stat", [{"refId": "A", "expr": "a"}], options=STAT)
    shape["fieldConfig"]["defaults"] = {"unit": "percentunit", "min": 0, "max": 1}

    [stat] = drawn(shape, {"a": [over([1.0, 0.9995])]})["stats"]

    assert stat["line"][:2] == [1.0, pytest.approx(0.9995, abs=1e-3)]
    assert stat["text"] == "100 %"


def test_bars_are_named_by_what_their_bin_means() -> None:
    """The number of a bin is mapped to its range, and a missing value has no bar."""
    ranges = {"00": {"text": "< 10 %"}, "01": {"text": "10 to 20 %"}}
    override = {
        "matcher": {"id": "byName", "options": "bin"},
        "properties": [{"id": "mappings", "value": [{"type": "value", "options": ranges}]}],
    }
    options = {"xField": "bin", "xTickLabelMaxLength": 20}
    steps = [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]
    shape = panel("barchart", [table("a")], options=options, transformations=steps)
    shape["fieldConfig"]["overrides"] = [override]

    seen = drawn(shape, {"a": [at(0.1, bin="00"), at(float("nan"), bin="01")]})

    assert seen["labels"] == ["< 10 %", "10 to 20 %"]
    assert [bar["y"] for bar in seen["bars"]] == [[0.1, None]]


@pytest.mark.parametrize("kind", ["timeseries", "state-timeline", "heatmap", "bargauge", "table"])
def test_no_answer_is_said_in_the_words_of_the_panel(kind: str) -> None:
    """Every type that can be empty says what that means."""
    options = {"heatmap": {"yAxis": {"unit": "s"}, "cellValues": {"unit": "s"}}}.get(kind, {})
    shape = panel(kind, [{"refId": "A", "expr": "a"}], options=options)
    shape["fieldConfig"]["defaults"]["noValue"] = "Nothing rejected"

    assert drawn(shape, {"a": []}) == {"empty": "Nothing rejected"}


def test_a_type_that_is_unknown_is_noted() -> None:
    """It is shown as such, and --strict finds the note."""
    notes = Notes()

    seen = view(panel("geomap", []), Context(Answers({}), {}, notes))

    assert seen == {"empty": "cannot be shown here"}
    assert notes == ["panels of type geomap"]
