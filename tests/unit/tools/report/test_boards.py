"""A dashboard as the page shows it: what repeats, what can be chosen, what is left out."""

from typing import Any

from tests.support.report import Answers, at, over, panel, table
from tools.report import boards
from tools.report.client import QueryError, Series
from tools.report.context import View


class Labels(Answers):
    """Knows the values of labels; a query that says so is rejected."""

    values: dict[str, list[str]]

    def label_values(self, selector: str, label: str) -> list[str]:
        """Return the values of a label."""
        del selector
        return self.values.get(label, [])

    def instant(self, expr: str) -> list[Series]:
        """Return the answer, or reject the query."""
        if "bad" in expr:
            raise QueryError("parse error")
        return self._given.get(expr, [])


def variable(name: str, **more: object) -> dict[str, Any]:
    """Return a variable that takes its values from a label of its name."""
    query = {"query": f"label_values(x, {name})"}
    return {"name": name, "label": name, "type": "query", "query": query, **more}


def board(*items: dict[str, Any], variables: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a dashboard."""
    return {
        "uid": "ml-x",
        "title": "ML monitoring / X",
        "description": "About x.",
        "panels": list(items),
        "templating": {"list": variables},
        "annotations": {"list": []},
    }


def numbered(shape: dict[str, Any], title: str) -> dict[str, Any]:
    """Return a panel with what a dashboard adds to it."""
    place = {"x": 0, "y": 1, "w": 12, "h": 8}
    return {**shape, "id": 1, "title": title, "description": "What it is.", "gridPos": place}


ALL = {"current": {"value": ["$__all"]}, "allValue": ".+", "multi": True}
ROW = {"type": "row", "title": "Version $version", "repeat": "version", "panels": []}


def rendered(shape: dict[str, Any], answers: dict[str, list[Series]], **values: list[str]) -> View:
    """Return a dashboard, rendered with these answers and values of labels."""
    prometheus = Labels(answers)
    prometheus.values = values
    return boards.render(shape, prometheus, {})


def test_a_row_repeats_for_every_version() -> None:
    """Each copy asks for its own version, and says so in its title."""
    shape = board(
        ROW,
        numbered(panel("table", [table('m{v="$version"}')]), "M"),
        variables=[variable("version", **ALL)],
    )
    answers = {'m{v="a"}': [at(1, f="x")], 'm{v="b"}': [at(2, f="x"), at(3, f="y")]}

    sections = rendered(shape, answers, version=["a", "b"])["sections"]

    assert [each["title"] for each in sections] == ["Version a", "Version b"]
    assert [len(each["panels"][0]["view"]["rows"]) for each in sections] == [1, 2]


def test_a_reader_can_choose_what_is_drawn_for_every_value() -> None:
    """A variable of panels about one moment; one of a line over time keeps its value."""
    lines = panel("timeseries", [{"refId": "A", "expr": 'l{w="$window"}'}])
    lines["fieldConfig"]["defaults"]["custom"] = {}
    lines["options"] = {"legend": {"placement": "bottom", "calcs": []}}
    shape = board(
        numbered(panel("table", [table('m{f="$feature"}')]), "Bins of $feature"),
        numbered(lines, "Lines"),
        variables=[variable("feature"), variable("window")],
    )
    answers = {
        'm{f="x"}': [at(1, bin="0")],
        'm{f="y"}': [at(2, bin="0")],
        'l{w="1d"}': [over([1, 2])],
    }

    made = rendered(shape, answers, feature=["x", "y"], window=["1d", "1h"])
    [table_, lines_] = made["sections"][0]["panels"]

    assert made["choices"] == {"feature": {"options": ["x", "y"], "chosen": "x"}}
    assert (table_["choice"], list(table_["views"])) == ("feature", ["x", "y"])
    assert "lines" in lines_["view"]
    assert boards.is_empty(made) is False


def test_too_many_values_are_not_dropped_in_silence() -> None:
    """A panel that cannot be drawn for each of 200 features says so."""
    shape = board(
        numbered(panel("table", [table('m{f="$feature"}')]), "Bins"),
        variables=[variable("feature")],
    )
    names = [f"f{number:03}" for number in range(200)]

    [drawn] = rendered(shape, {}, feature=names)["sections"][0]["panels"]

    assert len(drawn["views"]) == 60
    assert drawn["notes"] == ["only 60 of 200 values; --var feature=… adds another"]


def test_a_dashboard_without_a_model_is_left_out_with_the_reason() -> None:
    """As that of classification where only a regression runs."""
    shape = board(numbered(panel("table", [table("m")]), "M"), variables=[variable("model")])

    assert rendered(shape, {})["left_out"] == "no model that it is about has run in this time"


def test_a_row_that_repeats_for_nothing_is_not_there() -> None:
    """As the publishers' where there is none: the dashboard stays, with what it has to say."""
    closed = {
        "type": "row",
        "title": "Export by $publisher",
        "repeat": "publisher",
        "panels": [numbered(panel("table", [table('p{job="$publisher"}')]), "Waiting")],
    }
    shape = board(
        numbered(panel("table", [table("m")]), "Publishers"),
        closed,
        variables=[variable("publisher", **{**ALL, "allValue": None}, includeAll=True)],
    )
    answers = {"m": [at(1, f="x")], 'p{job="a"}': [at(1, f="x")], 'p{job="b"}': [at(2, f="x")]}

    without = rendered(shape, answers)
    both = rendered(shape, answers, publisher=["a", "b"])

    assert "left_out" not in without
    assert [each["title"] for each in without["sections"]] == [""]
    assert [each["title"] for each in both["sections"]] == ["", "Export by a", "Export by b"]
    assert all("rows" in each["panels"][0]["view"] for each in both["sections"])


def test_a_rejected_query_is_said_on_its_panel_only() -> None:
    """The others are drawn, and --strict finds it."""
    shape = board(
        numbered(panel("table", [table("bad")]), "Bad"),
        numbered(panel("table", [table("m")]), "Good"),
        variables=[],
    )

    [bad, good] = rendered(shape, {"m": [at(1, f="x")]})["sections"][0]["panels"]

    assert bad["view"] == {"empty": "Prometheus rejects the query: parse error"}
    assert bad["notes"] == ["query rejected: parse error"]
    assert good["view"]["rows"]
