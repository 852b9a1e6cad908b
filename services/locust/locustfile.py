"""Connects locust to the traffic package: clock, network and process."""

import itertools
import os
import sys
import time
from typing import ClassVar

from locust import FastHttpUser, events, task
from locust.env import Environment
from locust.runners import LocalRunner, MasterRunner, Runner, WorkerRunner

from traffic.client import Client, Pace, Plan, make_plan
from traffic.drift import Drift
from traffic.errors import TrafficError
from traffic.exporter import LocustCollector, serve
from traffic.memory import forget
from traffic.rows import HELD_OUT, SOURCES
from traffic.scenarios import requests_of
from traffic.settings import read_settings, variable
from traffic.switch import add_route, announce, follow

HEADERS = {"Content-Type": "application/json"}


class Traffic:
    """The state shared by all users of this process: their plan, a clock, and their numbering."""

    def __init__(self, plan: Plan, runner: Runner) -> None:
        self.plan = plan
        self._runner = runner
        self.restart()

    def restart(self) -> None:
        """Restart the clock, and the numbering of users at 0."""
        self._started = time.monotonic()
        self._numbers = itertools.count()
        self.plan.drift.switch(self.plan.drift.mode)

    def elapsed(self) -> float:
        """Return the seconds since the test started."""
        return time.monotonic() - self._started

    def new_client(self) -> Client:
        """Return the next client of this process; the master numbers the worker processes."""
        process = self._runner.worker_index if isinstance(self._runner, WorkerRunner) else 0
        return Client(self.plan, process, next(self._numbers))


class ModelUser(FastHttpUser):
    """Sends the requests of its client to the model service, at the client's pace."""

    traffic: ClassVar[Traffic]

    def on_start(self) -> None:
        """Create a client and wait until its first request is due."""
        self._model_client = self.traffic.new_client()
        self._pace = Pace(
            self.traffic.plan.settings.requests_per_second_per_user,
            self._model_client.phase,
            self.traffic.elapsed(),
        )
        self.wait()  # type: ignore[no-untyped-call]

    def wait_time(self) -> float:
        """Return the seconds until the next request."""
        return self._pace.wait(self.traffic.elapsed())

    @task
    def ask(self) -> None:
        """Send one request and check its answer."""
        action = self._model_client.next(self.traffic.elapsed())
        with self.client.request(
            action.method,
            action.path,
            name=action.name,
            data=action.body,  # type: ignore[arg-type] # bytes are sent as they are
            headers=HEADERS,
            catch_response=True,
        ) as response:
            wrong = self._model_client.answered(
                action, response.status_code, response.content, self.traffic.elapsed()
            )
            if wrong:
                response.failure(wrong)
            else:
                response.success()


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, runner: Runner, **_: object) -> None:
    """Read settings and bundle; start the exporter, except in a worker process."""
    try:
        plan = make_plan(read_settings(os.environ), time.monotonic)
    except TrafficError as error:
        sys.exit(str(error))
    ModelUser.traffic = Traffic(plan, runner)
    environment.events.test_start.add_listener(  # type: ignore[no-untyped-call]
        lambda **_: ModelUser.traffic.restart()
    )
    environment.events.usage_monitor.add_listener(  # type: ignore[no-untyped-call] # every 5 s
        lambda **_: forget(runner.stats, time.time())
    )
    if isinstance(runner, LocalRunner | MasterRunner):
        check_host(environment)
        export(plan, runner)
    connect_drift(environment, plan.drift, runner)


def connect_drift(environment: Environment, drift: Drift, runner: Runner) -> None:
    """Let the web page switch the drift, and a master switch it in all workers."""

    def spread(**_: object) -> None:
        if isinstance(runner, MasterRunner):
            announce(drift, runner)

    if isinstance(runner, WorkerRunner):
        follow(drift, runner)
    # Repeated, so that workers that connect later have the same drift.
    environment.events.usage_monitor.add_listener(spread)  # type: ignore[no-untyped-call]
    if environment.web_ui and environment.web_ui.app:
        add_route(environment.web_ui.app, drift, spread)


def check_host(environment: Environment) -> None:
    """Exit with a one-line error if a test is about to start without a host.

    Locust itself would exit with 0.
    """
    options = environment.parsed_options
    starts = options is not None and (options.headless or options.autostart)
    host = environment.host or ""
    if starts and not host.startswith(("http://", "https://")):
        sys.exit(f"LOCUST_HOST: {host!r} is not a URL such as http://127.0.0.1:8000")


def export(plan: Plan, runner: LocalRunner | MasterRunner) -> None:
    """Serve locust's figures to Prometheus, or exit with a one-line error."""
    settings = plan.settings
    requests = requests_of(plan.mix, plan.populations.usual[0])
    if settings.label_share > 0:
        requests.append(("POST", "feedback"))
    rows = HELD_OUT if settings.rows in SOURCES else settings.rows
    facts = {"scenario": settings.scenario, "rows": rows, "seed": str(settings.seed)}
    collector = LocustCollector(runner, requests, facts, plan.drift)
    try:
        serve(collector, settings.metrics_host, settings.metrics_port)
    except OSError as error:
        address = f"{settings.metrics_host}:{settings.metrics_port}"
        sys.exit(f"{variable('metrics_port')}: cannot listen on {address}: {error.strerror}")
