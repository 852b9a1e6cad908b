"""Switch the drift of the running traffic: `./task drift`, `./task drift -- gradual` or `off`.

No restart: locust's web page has an address for it, and a master forwards to its workers.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from tools import command
from tools.stack import probe
from tools.stack.services import REPORT, service
from tools.stack.settings import Settings, StackError, load_settings

MODES = ("drifted", "gradual", "off")
# A proxy of the environment has no business between this machine and itself.
_OPENER = build_opener(ProxyHandler({}))
_DASHBOARD = "/d/ml-drift"
_REPORTS = {
    "drifted": """\
the traffic sends rows of another population from now on; `./task drift -- off` ends it
  within 9 minutes       the verdict of each drifted feature is "drift"       {verdicts}
  after 8 to 14 minutes  FeatureDrift fires for each of them, often with
                         PredictionDrift and FeatureOutOfRange                {alerts}""",
    "gradual": """\
the traffic sends ever more rows of another population, in the end (after LOCUST_GRADUAL_SECONDS)
only those; `./task drift -- off` ends it
  as the share grows     the verdict of each drifted feature turns to "drift" {verdicts}
  minutes after each     FeatureDrift fires for it                            {alerts}""",
    "off": """\
the traffic sends its usual rows again
  as drifted rows leave the windows of an hour and a day, verdicts and alerts end
  {verdicts}
  {alerts}""",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Switch; a StackError is one line on stderr and exit status 1."""
    parser = argparse.ArgumentParser(prog="tools.drift", description=__doc__)
    parser.add_argument("mode", nargs="?", default="drifted", choices=MODES)
    mode = parser.parse_args(arguments).mode
    try:
        settings = load_settings()
        switch(settings, mode)
    except StackError as error:
        print(f"drift: {error}", file=sys.stderr)
        return 1
    print(report(settings, mode))
    return 0


def switch(settings: Settings, mode: str) -> None:
    """Switch the drift of the traffic. Raises StackError."""
    address = settings.url("LOCUST_PORT")
    url = f"{address}/drift"
    body = json.dumps({"mode": mode}).encode()
    request = Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 of 127.0.0.1
    try:
        _OPENER.open(request, timeout=10).close()
    except HTTPError as error:
        error.close()
        raise StackError(f"{url} answers {error.code}: LOCUST_PORT is not locust's") from error
    except OSError as error:
        raise StackError(f"no traffic is running at {address}: `./task up` starts it") from error


def report(settings: Settings, mode: str) -> str:
    """Return what to watch, where and when."""
    verdicts = settings.url("PROMETHEUS_PORT", "/graph?g0.expr=model_feature:verdict")
    if probe.ready(settings, service("grafana")):
        verdicts = settings.url("GRAFANA_PORT", _DASHBOARD)
    elif probe.ready(settings, REPORT):
        verdicts = settings.url("REPORT_PORT", _DASHBOARD.replace("/d/", "/#"))
    alerts = settings.url("PROMETHEUS_PORT", "/alerts")
    return _REPORTS[mode].format(verdicts=verdicts, alerts=alerts)


if __name__ == "__main__":
    command.run(main)
