"""Run the simulated traffic headless against the running model: 5 minutes, or as its options say.

LOCUST_… of the environment and .env win, and so do locust's options:
`./task loadtest -- --users 50 --run-time 30s`.
"""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from tools import ROOT
from tools.stack import ports, probe, setup
from tools.stack.services import service
from tools.stack.settings import Settings, StackError, load_settings, read_env_file

RUN_TIME = "5m"


def main(options: Sequence[str]) -> NoReturn:
    """Become locust, unless the model it is to ask does not answer."""
    try:
        settings = load_settings()
    except StackError as error:
        sys.exit(f"loadtest: {error}")
    if not _elsewhere(settings, options) and not probe.ready(settings, service("model")):
        sys.exit(f"loadtest: no model answers at {settings.url('MODEL_PORT')}: ./task up starts it")
    os.chdir(ROOT / "services" / "locust")
    command = [sys.executable, "-m", "locust", "--headless", *options]
    os.execve(sys.executable, command, _environment(settings))  # noqa: S606


def _elsewhere(settings: Settings, options: Sequence[str]) -> bool:
    """Tell whether the model to ask is another than this machine's."""
    return "LOCUST_HOST" in settings.environment or any(
        option.startswith(("--host", "-H")) for option in options
    )


def _environment(settings: Settings) -> dict[str, str]:
    defaults = read_env_file(ROOT / "services" / "locust" / "settings.env")
    del defaults["LOCUST_AUTOSTART"]  # locust rejects it with --headless
    metrics_port = settings.ports["LOCUST_METRICS_PORT"]
    if ports.in_use(metrics_port):  # the stack's own traffic goes on beside the load test
        metrics_port = ports.free_port()
    return {
        **defaults,
        "LOCUST_HOST": settings.url("MODEL_PORT"),
        "LOCUST_RUN_TIME": RUN_TIME,
        "LOCUST_METRICS_HOST": "127.0.0.1",
        **settings.environment,
        "MODEL_BUNDLE": str(setup.bundle(settings)),
        "LOCUST_METRICS_PORT": str(metrics_port),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
