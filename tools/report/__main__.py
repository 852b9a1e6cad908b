"""Render the dashboards into one HTML file and a picture each: python -m tools.report."""

import argparse
import logging
import sys
import time
from pathlib import Path

from tools import ROOT, command
from tools.report import checks, pictures
from tools.report.errors import ReportError
from tools.report.page import Look
from tools.report.rendering import Report, Wish, report
from tools.report.server import Latest, server
from tools.report.summary import as_markdown
from tools.stack.settings import Settings, StackError, load_settings

_THEMES = ("auto", "light", "dark")
_REFRESH_SECONDS = 60
_WAIT_SECONDS = 5.0


def main() -> int:
    """Make, check or serve a report; a ReportError is one line on stderr and exit status 1."""
    try:
        settings = load_settings()
        return _run(_arguments(settings), settings)
    except (ReportError, StackError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _arguments(settings: Settings) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./task report --", description=__doc__)
    add = parser.add_argument
    add("--url", default=settings.url("PROMETHEUS_PORT"), help="Prometheus; %(default)s")
    add("--from", dest="start", default="now-1h", help="start of the range; %(default)s")
    add("--to", dest="end", default="now", help="end of the range; %(default)s")
    add("--var", action="append", default=[], metavar="NAME=VALUE", help="set a variable")
    add("--theme", choices=_THEMES, default="auto", help="of the page; %(default)s")
    add("--output", type=Path, default=ROOT / "var" / "report", help="directory; var/report")
    add("--width", type=int, default=1280, help="of the pictures in pixels; %(default)s")
    add("--no-png", action="store_true", help="no pictures")
    add("--summary", type=Path, help="append the verdict as Markdown to a file")
    add("--wait", type=int, default=0, metavar="S", help="wait until drift can be judged")
    add("--strict", action="store_true", help="exit 1 where something is not as in Grafana")
    add("--check", action="store_true", help="only run every query; errors and no answers exit 1")
    add("--serve", action="store_true", help="serve the latest report on REPORT_PORT")
    return parser.parse_args()


def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    wish = Wish(
        arguments.url,
        arguments.start,
        arguments.end,
        dict(_variable(each) for each in arguments.var),
        Look(arguments.theme, _REFRESH_SECONDS if arguments.serve else 0),
    )
    if arguments.serve:
        return _serve(wish, settings.ports["REPORT_PORT"], settings.var / "report" / "index.html")
    if arguments.check:
        return _check(wish)
    return _make(arguments, wish)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ReportError(f"--var {text}: must be NAME=VALUE")
    return name, value


def _serve(wish: Wish, port: int, file: Path) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with server(("127.0.0.1", port), Latest(lambda: report(wish).html, file)) as serving:
        serving.serve_forever()
    return 0


def _check(wish: Wish) -> int:
    found = checks.check(wish)
    problems = [each for each in found if each.problem]
    for each in problems:
        print(f"{each.place}: {each.problem}")
    print(f"{len(found)} queries, {len(problems)} with a problem")
    return 1 if problems else 0


def _make(arguments: argparse.Namespace, wish: Wish) -> int:
    made = _when_judged(wish, arguments.wait)
    target = arguments.output / "index.html"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(made.html, "utf-8")
        if arguments.summary:
            with arguments.summary.open("a", encoding="utf-8") as file:
                file.write(as_markdown(made.summary))
    except OSError as error:
        raise ReportError(f"{error.filename} cannot be written: {error.strerror}") from error
    print(made.summary.headline)
    print(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")
    if not arguments.no_png:
        _draw(made, target, arguments)
    for each in made.unknown:
        print(f"not as in Grafana: {each}")
    return 1 if arguments.strict and made.unknown else 0


def _when_judged(wish: Wish, seconds: int) -> Report:
    """Return the report, once no model's drift is unknown or the wait is over."""
    deadline = time.monotonic() + seconds
    while True:
        made = report(wish)
        verdicts = made.summary.verdicts
        judged = verdicts and not any("cannot be judged" in each.sentence for each in verdicts)
        if judged or time.monotonic() > deadline:
            return made
        time.sleep(_WAIT_SECONDS)


def _draw(made: Report, page: Path, arguments: argparse.Namespace) -> None:
    if not pictures.browser():
        print("no pictures: there is no Chromium on PATH")
        return
    theme = "light" if arguments.theme == "auto" else arguments.theme
    for board in made.boards:
        if "left_out" in board:
            continue
        panels = [panel for section in board["sections"] for panel in section["panels"]]
        rows = max(panel["box"]["y"] + panel["box"]["h"] for panel in panels)
        target = page.parent / f"{board['uid']}.png"
        summary = made.summary
        size = pictures.Size(arguments.width, rows, len(summary.verdicts), len(summary.changes))
        pictures.picture(page, board["uid"], target, theme, size)
        print(target)


if __name__ == "__main__":
    command.run(main)
