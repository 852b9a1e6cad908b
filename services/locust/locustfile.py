"""The shell between locust and the traffic package: the clock, the network, the process."""

import itertools
import os
import sys
import time
from typing import ClassVar

from locust import FastHttpUser, events, task
from locust.env import Environment
from locust.runners import LocalRunner, MasterRunner, Runner, WorkerRunner

from traffic.client import Client, Pace
from traffic.exporter import LocustCollector, serve
from traffic.memory import forget
from traffic.rows import held_out
from traffic.scenarios import SCENARIOS, requests_of
from traffic.settings import Settings, SettingsError, read_settings, variable

HEADERS = {"Content-Type": "application/json"}


class Traffic:
    """What the users of this process share: settings, clock, and their numbering."""

    def __init__(self, settings: Settings, runner: Runner) -> None:
        self.settings = settings
        self._runner = runner
        self.restart()

    def restart(self) -> None:
        """Begin again: users are numbered from 0, and no time has passed."""
        self._started = time.monotonic()
        self._numbers = itertools.count()

    def elapsed(self) -> float:
        """Return the seconds since the test started."""
        return time.monotonic() - self._started

    def new_client(self) -> Client:
        """Return this process's next client; the master numbers its worker processes."""
        process = self._runner.worker_index if isinstance(self._runner, WorkerRunner) else 0
        return Client(self.settings, process, next(self._numbers))


class ModelUser(FastHttpUser):
    """Asks the model service what its client says, at the client's pace."""

    traffic: ClassVar[Traffic]

    def on_start(self) -> None:
        """Get a client, and wait for the moment of its first request."""
        self._model_client = self.traffic.new_client()
        self._pace = Pace(
            self.traffic.settings.requests_per_second_per_user,
            self._model_client.phase,
            self.traffic.elapsed(),
        )
        self.wait()  # type: ignore[no-untyped-call]

    def wait_time(self) -> float:
        """Return the seconds until the next request."""
        return self._pace.wait(self.traffic.elapsed())

    @task
    def ask(self) -> None:
        """Send one request and judge its answer."""
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
    """Read the settings, and start the exporter where the figures of all users come together."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        sys.exit(str(error))
    ModelUser.traffic = Traffic(settings, runner)
    environment.events.test_start.add_listener(  # type: ignore[no-untyped-call]
        lambda **_: ModelUser.traffic.restart()
    )
    environment.events.usage_monitor.add_listener(  # type: ignore[no-untyped-call] # every 5 s
        lambda **_: forget(runner.stats, time.time())
    )
    if isinstance(runner, LocalRunner | MasterRunner):
        check_host(environment)
        export(settings, runner)


def check_host(environment: Environment) -> None:
    """End with one line when a test is about to start against nothing; locust would exit with 0."""
    options = environment.parsed_options
    starts = options is not None and (options.headless or options.autostart)
    host = environment.host or ""
    if starts and not host.startswith(("http://", "https://")):
        sys.exit(f"LOCUST_HOST: {host!r} is not a URL such as http://127.0.0.1:8000")


def export(settings: Settings, runner: LocalRunner | MasterRunner) -> None:
    """Serve locust's figures to Prometheus, or end with one line that says why not."""
    requests = requests_of(SCENARIOS[settings.scenario], held_out()[0])
    if settings.label_share > 0:
        requests.append(("POST", "feedback"))
    facts = {"scenario": settings.scenario, "rows": settings.rows, "seed": str(settings.seed)}
    address = f"{settings.metrics_host}:{settings.metrics_port}"
    try:
        serve(
            LocustCollector(runner, requests, facts), settings.metrics_host, settings.metrics_port
        )
    except OSError as error:
        sys.exit(f"{variable('metrics_port')}: cannot listen on {address}: {error.strerror}")
