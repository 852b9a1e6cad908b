"""The report as one HTML file that needs neither a network nor other files."""

import base64
import gzip
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jinja2
from markupsafe import Markup

from tools.report.colors import inks, themes
from tools.report.context import View
from tools.report.errors import ReportError
from tools.report.summary import Summary
from tools.report.times import Range

_HERE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Look:
    """How a page is shown: its theme, and after how many seconds it loads itself again."""

    theme: str = "auto"
    refresh: int = 0


def page(boards: Sequence[View], summary: Summary, span: Range, look: Look) -> str:
    """Return the HTML."""
    shown = [board for board in boards if "left_out" not in board]
    data = {"boards": shown, "themes": themes(), "inks": inks(), "refresh": look.refresh}
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["css"] = _css
    template = environment.from_string((_HERE / "page.html").read_text("utf-8"))
    return template.render(
        title=f"ML monitoring: {summary.headline}",
        theme=look.theme,
        # Read from this directory: trusted, and not to be escaped.
        css=Markup(_palette() + (_HERE / "page.css").read_text("utf-8")),  # noqa: S704
        js=Markup((_HERE / "page.js").read_text("utf-8")),  # noqa: S704
        data=_packed(json.dumps(data, separators=(",", ":"), allow_nan=False).encode()),
        plotly=_packed(_plotly().read_bytes()),
        span=_words(span),
        made=datetime.fromtimestamp(span.end, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        verdicts=summary.verdicts,
        changes=summary.changes,
        legend=summary.legend,
        left_out=[board for board in boards if "left_out" in board],
    )


def _palette() -> str:
    """Return the colours of both themes as variables, for what is there before the script runs."""
    rules = []
    for theme, selector in (("light", ":root"), ("dark", ':root[data-theme="dark"]')):
        tones = themes()[theme] | {f"ink-{name}": tone for name, tone in inks()[theme].items()}
        found = "; ".join(f"--{name.replace('#', '')}: {tone}" for name, tone in tones.items())
        rules.append(f"{selector} {{ {found} }}\n")
    return "".join(rules)


def _css(color: str) -> str:
    """Return the colour of a text for a style sheet: a variable of the theme."""
    return f"var(--ink-{color.removeprefix('#')})"


def _packed(content: bytes) -> str:
    """Return bytes as text that a browser can unpack: a quarter of their size."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _plotly() -> Path:
    """Return Plotly's JavaScript, which its Python package holds (and is slow to import)."""
    found = importlib.util.find_spec("plotly")
    if not found or not found.origin:
        raise ReportError("the package plotly is not installed: ./task report installs it")
    return Path(found.origin).parent / "package_data" / "plotly.min.js"


def _words(span: Range) -> str:
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if span.seconds >= size and span.seconds % size == 0:
            count = span.seconds // size
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{span.seconds} seconds"
