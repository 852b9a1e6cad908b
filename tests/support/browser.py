"""A headless Chromium that opens the report and says what it sees."""

import base64
import html
import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tools.report import pictures

# Run by the page once it is drawn: which panels are drawn, blank, or wider than their box.
_LOOK = """
<script>
addEventListener("error", (event) => (window.failed ||= []).push(event.message));
addEventListener("unhandledrejection", ({ reason }) => (window.failed ||= []).push(`${reason}`));
const TEXTS = "text, .stat b, .stat i, td, th, .bars b, .legend span";
const DRAWN = "svg path, .stat b, td, .bars b, .words p, .words li";
const look = () => {
  if (document.documentElement.dataset.ready !== "true") return setTimeout(look, 50);
  const over = (node) => node.scrollWidth > node.clientWidth + 1;
  const panels = [...document.querySelectorAll(".panel")].map((panel) => {
    const body = panel.querySelector(".body");
    const box = body.getBoundingClientRect();
    const texts = [...body.querySelectorAll(TEXTS)];
    return {
      title: panel.dataset.title,
      type: panel.dataset.type,
      drawn: body.dataset.drawn === "true",
      empty: body.querySelector(".empty")?.textContent ?? null,
      marks: body.querySelectorAll(DRAWN).length,
      // Of each filled area, the number of its pieces.
      areas: [...body.querySelectorAll(".js-plotly-plot")].flatMap(({ data }) => data)
        .filter(({ fill }) => fill === "toself")
        .map(({ x }) => x.filter((at) => at === null).length),
      notes: [...body.querySelectorAll(".note")].map((note) => note.textContent),
      wide: [body, ...body.querySelectorAll(".rows, .stat, .key, .bars, .legend, .words")]
        .filter(over).map((node) => node.className),
      at: [box.left, box.top, box.width, box.height].map((each) => Math.round(each)),
      outside: texts.filter((node) => node.textContent.trim()).filter((node) => {
        const at = node.getBoundingClientRect();
        return at.width && (at.left < box.left - 1 || at.right > box.right + 1);
      }).map((node) => node.textContent),
    };
  });
  const seen = {
    panels,
    failed: window.failed || [],
    asked: performance.getEntriesByType("resource").map((each) => each.name),
    width: document.documentElement.scrollWidth,
  };
  const made = document.createElement("pre");
  document.body.append(Object.assign(made, { id: "seen", textContent: JSON.stringify(seen) }));
  if (parent !== window) parent.postMessage(made.textContent, "*");
};
look();
</script>
"""
# Run by a page of its own: how many pixels of each box are not of the box's commonest colour.
_COUNT = """<!doctype html><body><script>
const given = %s;
const make = (tag, more) => Object.assign(document.createElement(tag), more);
const image = new Image();
image.onload = () => {
  const canvas = make("canvas", { width: image.width, height: image.height });
  const paper = canvas.getContext("2d");
  paper.drawImage(image, 0, 0);
  const marks = given.boxes.map(([x, y, width, height]) => {
    const counts = new Map();
    const { data } = paper.getImageData(x, y, width, height);
    for (const each of new Uint32Array(data.buffer)) counts.set(each, (counts.get(each) ?? 0) + 1);
    return width * height - Math.max(...counts.values());
  });
  document.body.append(make("pre", { id: "seen", textContent: JSON.stringify(marks) }));
};
image.src = given.picture;
</script>"""
# A page that has the page in a frame, for screens that are narrower than any window.
_FRAME = """<!doctype html><body>
<iframe style="width: %dpx; height: %dpx; border: 0" src="%s"></iframe>
<script>
addEventListener("message", ({ data }) => {
  const made = document.createElement("pre");
  document.body.append(Object.assign(made, { id: "seen", textContent: data }));
});
</script>"""
_LEAST_WINDOW_PX = 500
HEIGHT = 3000
_SECONDS = 120


@dataclass(frozen=True)
class Seen:
    """What the browser saw of one dashboard."""

    panels: list[dict[str, Any]]
    failed: list[str]
    asked: list[str]
    """Addresses that the page loaded something from."""
    width: int
    console: list[str]


def require_browser() -> str:
    """Return the path of a Chromium, or skip the test where there is none."""
    return pictures.browser() or pytest.skip("no Chromium is on PATH")


def look(page: str, directory: Path, board: str, theme: str, width: int) -> Seen:
    """Open a dashboard of a report and return what there is to see."""
    file = directory / "looked-at.html"
    # Before the page's own script, so that an error of that is heard as well.
    file.write_text(page.replace('<script id="data"', f'{_LOOK}<script id="data"', 1), "utf-8")
    address = f"{file.as_uri()}?still&theme={theme}#{board}"
    if width < _LEAST_WINDOW_PX:
        frame = directory / "frame.html"
        frame.write_text(_FRAME % (width, HEIGHT, html.escape(address)), "utf-8")
        address = frame.as_uri()
    values, console = _opened(address, f"--window-size={max(width, _LEAST_WINDOW_PX)},{HEIGHT}")
    return Seen(**values, console=console)


def marked_pixels(picture: Path, boxes: Sequence[Sequence[int]]) -> list[int]:
    """Return how many pixels of each box of a picture are not of its commonest colour."""
    data = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    file = picture.with_suffix(".html")
    file.write_text(_COUNT % json.dumps({"picture": data, "boxes": boxes}), "utf-8")
    marks, _ = _opened(file.as_uri(), "--window-size=800,600")
    return list(marks)


def _opened(address: str, size: str) -> tuple[Any, list[str]]:
    """Open a page; return what it found, as JSON in #seen, and the lines of its console."""
    binary = require_browser()
    with pictures.profile() as options:
        command = [
            *(binary, *options, "--dump-dom", "--enable-logging=stderr"),
            *(size, "--virtual-time-budget=30000", address),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, f"the page was not drawn: {done.stderr[-2000:]}"
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found[1])), console
