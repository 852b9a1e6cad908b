"""How much of the traffic the model rejects, and which version it serves."""

import json
import math
from collections.abc import Iterator

from tools.stack import probe, setup
from tools.stack.settings import Settings

WINDOW = "5m"
REJECTED = f"rate(model_rows_rejected_total[{WINDOW}])"
PREDICTED = f"rate(model_predictions_total[{WINDOW}])"
SHARE = f"sum({REJECTED}) / (sum({REJECTED}) + sum({PREDICTED}))"


def lines(settings: Settings) -> Iterator[str]:
    """Yield what `status` prints of the traffic and of the model's version."""
    share = rejected_share(settings)
    if share is not None:
        yield f"{share:.1%} of the rows of the last 5 minutes were rejected"
    built, running = built_version(settings), probe.running_version(settings)
    if built and running and built != running:
        yield f"version {running} runs, {built} was built: {switch()}"


def rejected_share(settings: Settings) -> float | None:
    """Return the share of rows rejected in the last 5 minutes; None without any row."""
    values = [float(sample["value"][1]) for sample in probe.query(settings, SHARE)]
    return next((value for value in values if not math.isnan(value)), None)


def built_version(settings: Settings) -> str | None:
    """Return the version of the bundle that the next start serves; None where there is none."""
    file = setup.bundle(settings) / "bundle.json"
    return str(json.loads(file.read_text())["version"]) if file.is_file() else None


def switch() -> str:
    """Return how a running stack is switched to the bundle that was built."""
    return "`./task reload` switches to it"


def report(settings: Settings) -> str:
    """Return, after training, which version runs and how to switch."""
    built, running = built_version(settings), probe.running_version(settings)
    if running is None:
        return f"version {built} is built; nothing runs: `./task up` starts it"
    if running == built:
        return f"version {built} is built, and runs"
    return f"version {built} is built; {running} runs: {switch()}"
