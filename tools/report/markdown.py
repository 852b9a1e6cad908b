"""The Markdown of the dashboards' texts: paragraphs, lists, bold, italic and code."""

import html
import re
from collections.abc import Iterator


def to_html(text: str) -> str:
    """Return a text as HTML; whatever is no Markdown is shown as it is."""
    return "".join(part for block in text.split("\n\n") for part in _block(block.strip()))


def _block(block: str) -> Iterator[str]:
    lines = block.splitlines()
    if lines and all(line.startswith("- ") for line in lines):
        yield "<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>"
    elif lines:
        yield "<p>" + "<br>".join(map(_inline, lines)) + "</p>"


def _inline(text: str) -> str:
    text = html.escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)
