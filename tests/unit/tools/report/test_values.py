"""How the report reads variables, times, mappings, colours and transformations."""

import pytest

from tools.report.colors import GROUNDS, contrast, inks, series_color, themes, value_color
from tools.report.errors import ReportError
from tools.report.fields import Field, configured
from tools.report.mappings import shown
from tools.report.markdown import to_html
from tools.report.notes import Notes
from tools.report.times import Range, parse_range
from tools.report.transformations import from_rows, rows, transform
from tools.report.variables import Variable, query_parameter, substitute, used, windows

ONE = Variable("version", "Version", ("a", "b.c"), ("b.c",))
BOTH = Variable("version", "Version", ("a", "b.c"), ("a", "b.c"))
ALL = Variable("version", "Version", ("a", "b.c"), ("a", "b.c"), ".+")


@pytest.mark.parametrize(
    ("variable", "text"), [(ONE, 'x{v=~"b.c"}'), (BOTH, 'x{v=~"(a|b\\.c)"}'), (ALL, 'x{v=~".+"}')]
)
def test_a_variable_is_put_into_a_query(variable: Variable, text: str) -> None:
    """One value as it is, several as a pattern, all as what the dashboard says."""
    assert substitute('x{v=~"$version"}', {"version": variable}) == text


def test_what_is_no_variable_stays() -> None:
    """A longer name is another variable, and Grafana's own come from the range."""
    own = windows(30, 3600)

    assert substitute("$versions $x", {"version": ONE}) == "$versions $x"
    assert substitute("[$__rate_interval] [$__range]", {}, own) == "[60s] [3600s]"
    assert windows(300, 3600)["__rate_interval"] == "315s"
    assert used("$a ${b:queryparam} ${__value.raw}") == {"a", "b"}


def test_a_link_names_all_as_grafana_does() -> None:
    """A parameter per value, or one that stands for all."""
    assert query_parameter(BOTH) == "var-version=a&var-version=b.c"
    assert substitute("?${version:queryparam}", {"version": ALL}) == "?var-version=%24__all"


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        ("now-1h", "now", Range(6400, 10000)),
        ("now-2d", "now-1d", Range(10000 - 172800, 10000 - 86400)),
        ("1970-01-01T01:00", "1970-01-01T02:00+00:00", Range(3600, 7200)),
        ("5000", "1600000000000", Range(5000, 1.6e9)),
    ],
)
def test_a_range_is_read_as_grafana_writes_it(start: str, end: str, found: Range) -> None:
    """Relative, as a date, or since 1970 in seconds or milliseconds."""
    assert parse_range(start, end, 10000) == found


def test_a_range_that_is_none_is_rejected() -> None:
    """With the option's name."""
    with pytest.raises(ReportError, match=r"--from yesterday: must be like now-6h"):
        parse_range("yesterday", "now", 1)
    with pytest.raises(ReportError, match=r"--from now is not before --to now-1m"):
        parse_range("now", "now-1m", 1)


def test_steps_are_round_and_keep_the_points_few() -> None:
    """An hour in 240 points is 15 s, a week in as many is an hour."""
    assert Range(0, 3600).step(240, 15) == 15
    assert Range(0, 3600).step(240, 60) == 60
    assert Range(0, 604800).step(240, 15) == 3600


CANNOT_TELL = {"type": "value", "options": {"-1": {"text": "cannot tell", "color": "#9fa7b3"}}}
FINE = {"type": "range", "options": {"from": None, "to": 0, "result": {"text": "fine"}}}
STEPS = {
    "mode": "absolute",
    "steps": [{"color": "text", "value": None}, {"color": "red", "value": 1}],
}


@pytest.mark.parametrize(
    ("value", "text", "color"),
    [(-1.0, "cannot tell", "#9fa7b3"), (0.0, "fine", "text"), (2.0, "2", "red")],
)
def test_a_mapping_comes_before_the_unit(value: float, text: str, color: str) -> None:
    """The first that fits counts; one without a colour leaves that of the thresholds."""
    config = {
        "mappings": [CANNOT_TELL, FINE],
        "color": {"mode": "thresholds"},
        "thresholds": STEPS,
    }
    seen = shown(value, config, 0)

    assert (seen.text, seen.color) == (text, color)


def test_a_missing_value_says_what_the_panel_says() -> None:
    """And has no colour that means something."""
    config = {"noValue": "no label", "color": {"mode": "thresholds"}, "thresholds": STEPS}

    assert shown(None, config, 0).text == "no label"
    assert shown(None, config, 0).color == "text"
    assert shown(float("nan"), {}, 0).text == "–"


def test_colours_have_a_tone_in_each_theme() -> None:
    """The light theme's tones are darker, and lines of a palette differ."""
    both = themes()
    lines = [series_color({"color": {"mode": "palette-classic"}}, number) for number in range(12)]

    assert both["dark"].keys() == both["light"].keys()
    assert both["dark"]["red"] != both["light"]["red"]
    assert len(set(lines)) == 12
    assert set(lines) <= both["dark"].keys()
    assert value_color({"color": {"mode": "fixed", "fixedColor": "blue"}}, 3) == "blue"


def test_every_text_can_be_read_in_both_themes() -> None:
    """Its contrast with the page is at least 4.5, also where Grafana's own tone has 2."""
    for theme, tones in inks().items():
        assert "#9fa7b3" in tones
        for name, tone in tones.items():
            assert contrast(tone, GROUNDS[theme]) >= 4.5, (theme, name)
    assert contrast(themes()["light"]["orange"], GROUNDS["light"]) < 3
    assert inks()["dark"]["green"] == themes()["dark"]["green"]
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_tables_are_merged_by_the_columns_that_they_share() -> None:
    """Columns of values come together in one row; a row that one table lacks stays."""
    one = from_rows(["Time", "f", "Value #A"], [{"Time": 1, "f": "x", "Value #A": 1.0}])
    other = from_rows(
        ["Time", "f", "Value #B"],
        [{"Time": 2, "f": "x", "Value #B": 3.0}, {"Time": 2, "f": "y", "Value #B": 4.0}],
    )
    organize = {
        "excludeByName": {"Time": True},
        "indexByName": {"f": 1, "Value #B": 0, "Value #A": 2},
        "renameByName": {"f": "Signal"},
    }
    steps = [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]

    [merged] = transform([one, other], steps, Notes())

    assert rows(merged) == [
        {"Value #B": 3.0, "Signal": "x", "Value #A": 1.0},
        {"Value #B": 4.0, "Signal": "y", "Value #A": None},
    ]


def test_a_matrix_has_a_row_and_a_column_per_value() -> None:
    """As for a confusion: predicted down, true across, and a gap where there is none."""
    cells = [("no", "no", 5.0), ("no", "yes", 1.0), ("yes", "yes", 7.0)]
    names = ["predicted", "actual", "Value"]
    table = from_rows(names, [dict(zip(names, cell, strict=True)) for cell in cells])
    options = {"columnField": "actual", "rowField": "predicted", "valueField": "Value"}

    [matrix] = transform([table], [{"id": "groupingToMatrix", "options": options}], Notes())

    assert rows(matrix) == [
        {"predicted\\actual": "no", "no": 5.0, "yes": 1.0},
        {"predicted\\actual": "yes", "no": None, "yes": 7.0},
    ]


def test_what_is_unknown_is_noted_once_and_left_out() -> None:
    """A transformation, a property and a unit that nobody knows are said, not guessed."""
    notes = Notes()
    override = {
        "matcher": {"id": "byType", "options": "number"},
        "properties": [{"id": "custom.magic", "value": 1}],
    }
    panel = {"fieldConfig": {"defaults": {"unit": "velocityknot"}, "overrides": [override]}}

    left = transform([[]], [{"id": "joinByLabels", "options": {}}], notes)
    configured([Field("a", [1.0]), Field("b", [2.0])], panel, notes)

    assert left == [[]]
    assert notes == [
        "transformation joinByLabels",
        "overrides byType",
        "property custom.magic",
        "unit velocityknot",
    ]


def test_an_override_changes_the_fields_that_it_names() -> None:
    """By name or by pattern, also below another key; the others keep the default."""
    overrides = [
        {
            "matcher": {"id": "byName", "options": "b"},
            "properties": [{"id": "unit", "value": "s"}, {"id": "custom.width", "value": 5}],
        },
        {
            "matcher": {"id": "byRegexp", "options": "/ 5xx$/"},
            "properties": [{"id": "color", "value": {"mode": "shades", "fixedColor": "red"}}],
        },
    ]
    panel = {"fieldConfig": {"defaults": {"unit": "short"}, "overrides": overrides}}

    found = configured([Field("a", []), Field("b", []), Field("x 5xx", [])], panel, Notes())

    assert [each.config["unit"] for each in found] == ["short", "s", "short"]
    assert found[1].config["custom"] == {"width": 5}
    assert series_color(found[2].config, 0) == "red"


def test_markdown_is_shown_and_html_is_not() -> None:
    """What a dashboard says in a text cannot become a script of the page."""
    assert to_html("**a** `b`\n\n- *c*\n- <script>") == (
        "<p><strong>a</strong> <code>b</code></p>"
        "<ul><li><em>c</em></li><li>&lt;script&gt;</li></ul>"
    )
