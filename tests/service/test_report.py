"""The report of a model under real traffic, in a real browser."""

import copy
import os
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.browser import Seen, look, marked_pixels
from tests.support.wait import eventually
from tools import ROOT
from tools.report import pictures
from tools.report.checks import check
from tools.report.page import Look, page
from tools.report.rendering import Report, Wish, report
from tools.report.times import Range

BOARDS = [
    *("ml-overview", "ml-drift", "ml-accuracy-regression", "ml-service", "ml-versions", "ml-load"),
    "ml-export",
]
# Both themes and both widths, each with another dashboard; all dashboards with one of them.
LOOKS = [
    *((board, "dark", 1280) for board in BOARDS),
    *product(["ml-overview", "ml-drift"], ["light"], [1920]),
]
PHONE_PX = 390


@pytest.fixture(name="made", scope="module")
def _made(live_prometheus: str) -> Report:
    """Return a report of the last 5 minutes, once every query has an answer."""
    wish = Wish(live_prometheus, start="now-5m")
    eventually(lambda: [each for each in check(wish) if each.problem] == [], "answers", timeout=150)
    return report(wish)


def test_every_query_of_every_dashboard_has_an_answer(live_prometheus: str, made: Report) -> None:
    """`--check` asks for over 150 queries, and none fails or has no answer."""
    del made
    found = check(Wish(live_prometheus, start="now-5m"))

    assert len(found) > 150
    assert [each for each in found if each.problem] == []


def test_the_report_knows_everything_that_the_dashboards_use(made: Report) -> None:
    """Nothing of the JSON is unknown, so --strict has nothing to object to."""
    assert made.unknown == []


def test_the_report_is_one_small_file_that_loads_nothing(made: Report) -> None:
    """It has less than 3 MB, with its plotting library, and no address that it loads from."""
    assert len(made.html.encode()) < 3_000_000
    assert "<link" not in made.html
    assert " src=" not in made.html


def test_it_opens_with_the_verdict_in_words(made: Report) -> None:
    """Inputs are as in training, accuracy is known or not; the alert is among what changed."""
    [verdict] = made.summary.verdicts
    changes = [each.text for each in made.summary.changes]
    accuracy = {name: text for name, text, _ in verdict.answers}["Accuracy"]

    assert (verdict.sentence, accuracy) in (
        ("works as in training", "as promised"),
        ("gets inputs as in training; too few labels to know its accuracy", "cannot tell"),
    )
    assert verdict.sentence in made.html
    assert "Alert Always (ticket) fires." in changes


def test_only_the_other_task_is_left_out(made: Report) -> None:
    """A regression has no dashboard of classification, and every other one."""
    assert [each["uid"] for each in made.boards if "left_out" in each] == [
        "ml-accuracy-classification"
    ]


@pytest.mark.parametrize(("board", "theme", "width"), LOOKS)
def test_a_browser_draws_every_panel(
    board: str, theme: str, width: int, made: Report, tmp_path: Path
) -> None:
    """No error, nothing loaded, no blank panel, and every text within its box."""
    seen = look(made.html, tmp_path, board, theme, width)

    assert (seen.failed, seen.console, seen.asked) == ([], [], [])
    assert len(seen.panels) == len(_panels(made, board))
    assert [each["title"] for each in seen.panels if not each["drawn"] or each["notes"]] == []
    assert _blank(seen) == []
    assert {each["title"]: each["outside"] for each in seen.panels if each["outside"]} == {}
    assert {each["title"]: each["wide"] for each in seen.panels if each["wide"]} == {}
    assert seen.width <= width


def test_no_panel_of_a_picture_is_blank(made: Report, tmp_path: Path) -> None:
    """Every panel of the picture has pixels that differ from its ground, where the page has it."""
    page, picture = tmp_path / "index.html", tmp_path / "ml-drift.png"
    page.write_text(made.html, "utf-8")
    seen = look(made.html, tmp_path, "ml-drift", "light", 1280)
    pictures.picture(page, "ml-drift", picture, "light", pictures.Size(1280, 70))

    marks = marked_pixels(picture, [each["at"] for each in seen.panels])

    assert len(marks) == len(seen.panels) > 8
    names = [each["title"] for each in seen.panels]
    assert {name: mark for name, mark in zip(names, marks, strict=True) if mark < 200} == {}


def test_the_first_screen_fits_a_phone(made: Report, tmp_path: Path) -> None:
    """At 390 px the verdict and what changed are read without scrolling sideways."""
    seen = look(made.html, tmp_path, "ml-overview", "light", PHONE_PX)

    assert (seen.failed, seen.console) == ([], [])
    assert seen.width <= PHONE_PX
    assert [each["title"] for each in seen.panels if not each["drawn"]] == []


@pytest.mark.parametrize("gaps", [0, 1, 2])
def test_an_interval_is_not_drawn_where_it_is_unknown(
    gaps: int, made: Report, tmp_path: Path
) -> None:
    """Its area has a gap where its lines have one, as after Prometheus was down."""
    board, title = "ml-accuracy-regression", "Mean absolute error, last hour"
    boards = copy.deepcopy(made.boards)
    panels = _panels(replace(made, boards=boards), board)
    [lines] = [each["view"]["lines"] for each in panels if each["title"] == title]
    for line in lines:
        line["y"] = [0.5] * len(line["y"])
        line["y"][1 : 1 + 2 * gaps : 2] = [None] * gaps

    html = page(boards, made.summary, Range(0, time.time()), Look())
    seen = look(html, tmp_path, board, "light", 1280)

    assert [each["areas"] for each in seen.panels if each["title"] == title] == [[1 + gaps]]


def test_the_browser_would_see_a_fault(made: Report, tmp_path: Path) -> None:
    """An error of a script, a line on the console and a text that is too wide are all seen."""
    fault = """<script>
    console.error("a fault");
    setTimeout(() => { throw new Error("another fault"); });
    </script><style>.stat b { letter-spacing: 200px }</style>"""
    broken = made.html.replace("</head>", f"</head>{fault}", 1)

    seen = look(broken, tmp_path, "ml-overview", "dark", 1280)

    assert any("a fault" in line for line in seen.console)
    assert any("another fault" in line for line in [*seen.failed, *seen.console])
    assert any(each["outside"] or each["wide"] for each in seen.panels)


def _panels(made: Report, board: str) -> list[Any]:
    [found] = [each for each in made.boards if each["uid"] == board]
    return [panel for section in found["sections"] for panel in section["panels"]]


def _blank(seen: Seen) -> list[str]:
    """Return the panels that show neither marks nor words."""
    return [each["title"] for each in seen.panels if not each["marks"] and not each["empty"]]


def test_the_command_makes_a_page_and_the_words_for_a_pull_request(
    live_prometheus: str, tmp_path: Path
) -> None:
    """`./task report -- --strict` writes one file, and appends the verdict to the summary."""
    summary = tmp_path / "summary.md"
    done = _command(
        *("--url", live_prometheus, "--output", str(tmp_path), "--no-png", "--strict"),
        *("--from", "now-5m", "--summary", str(summary)),
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "index.html").stat().st_size < 3_000_000
    assert summary.read_text().startswith("## ML monitoring\n")
    assert "as in training" in summary.read_text()


def test_the_step_of_the_workflow_writes_the_summary(live_prometheus: str, tmp_path: Path) -> None:
    """Its lines on the report run as they are, against a stack that is up; a second adds to it."""
    [step] = [each for each in _steps() if "--summary" in each.get("run", "")]
    lines = [line for line in step["run"].splitlines() if "./task report" in line]
    summary = tmp_path / "summary.md"
    ours = f'"{sys.executable}" -m tools.report --url {live_prometheus} --from now-5m'
    script = "\n".join(lines).replace("./task report --", f"{ours} --output {tmp_path}")

    for _ in range(2):
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=ROOT,
            env={**os.environ, "GITHUB_STEP_SUMMARY": str(summary), "TASK_STATUS": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    assert len(lines) == 2
    assert summary.stat().st_size < 1 << 20
    assert summary.read_text().count("## ML monitoring\n") == 2
    assert not list(tmp_path.glob("*.png"))


def _steps() -> list[dict[str, str]]:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "http://127.0.0.1:9"], "http://127.0.0.1:9 does not answer as Prometheus does"),
        (["--from", "yesterday"], "--from yesterday: must be like now-6h"),
        (["--from", "now", "--to", "now-1h"], "--from now is not before --to now-1h"),
        (["--var", "model"], "--var model: must be NAME=VALUE"),
    ],
)
def test_a_mistake_gets_one_line(arguments: list[str], message: str) -> None:
    """It names the option and the reason, and the exit status is 1."""
    done = _command(*arguments)

    assert done.returncode == 1
    assert done.stderr.startswith(f"report: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_a_value_that_is_not_there_names_those_that_are(live_prometheus: str) -> None:
    """`--var model=…` of a model that nobody serves is a mistake, too."""
    done = _command("--url", live_prometheus, "--var", "model=nobody")

    assert done.returncode == 1
    assert done.stderr.startswith("report: --var model=nobody: no such value; there are: ")


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.report", *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "TASK_STATUS"},
        capture_output=True,
        text=True,
        check=False,
    )
