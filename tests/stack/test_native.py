"""The native stack from `./task up` to `./task down`, as a person uses it."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bundle.publish import publish
from tests.support.bundles import edit_manifest
from tests.support.logging_publisher import read_rows
from tests.support.machine import require
from tests.support.publisher import require_client
from tests.support.stack import Stack
from tests.support.wait import eventually
from tools import ROOT
from tools.fiddler_stand_in import ORGANISATION, TOKEN, Fiddler, running_fiddler
from tools.stack import native, setup
from tools.stack.services import NATIVE, SERVICES
from tools.stack.supervisor import Supervisor, started_by

JOBS = {service.name for service in SERVICES}
PROGRAMS = {service.name for service in NATIVE}


@pytest.fixture(name="fiddler", scope="module")
def _fiddler() -> Iterator[Fiddler]:
    with running_fiddler() as fiddler:
        yield fiddler


@pytest.fixture(name="log", scope="module")
def _log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "predictions"


@pytest.fixture(name="stack", scope="module")
def _stack(
    tmp_path_factory: pytest.TempPathFactory, fiddler: Fiddler, log: Path
) -> Iterator[Stack]:
    require("prometheus")
    require("alertmanager")
    require_client()
    stack = Stack(
        tmp_path_factory.mktemp("native"),
        FIDDLER_URL=fiddler.url,
        FIDDLER_ORG_ID=ORGANISATION,
        FIDDLER_AUTH_TOKEN=TOKEN,
        PREDICTION_LOG=os.path.relpath(log, ROOT),
        MODEL_SPOOL_SEGMENT_SECONDS="2",
    )
    up = stack.task("up")
    assert up.returncode == 0, up.stdout + up.stderr
    yield stack
    down = stack.task("down")
    assert down.returncode == 0, down.stdout + down.stderr


def _pids(stack: Stack) -> set[int]:
    return set(started_by(setup.mark(stack.settings)))


def test_every_url_that_up_prints_answers(stack: Stack) -> None:
    """A second `up` reports that the stack runs, changes no process and prints URLs that answer."""
    before = _pids(stack)

    up = stack.task("up")

    urls = re.findall(r"http://\S+", up.stdout)
    assert up.returncode == 0
    assert "running already" in up.stdout
    assert before == _pids(stack)
    assert len(urls) >= 2 * len(JOBS)
    statuses = {url: httpx.get(url, follow_redirects=True).status_code for url in urls}
    assert set(statuses.values()) == {200}, statuses


def test_the_stack_outlives_the_shell_that_started_it(stack: Stack) -> None:
    """Its supervisord leads a session of its own, so that no terminal's end reaches it."""
    pid = Supervisor(stack.settings.socket).pid()

    assert os.getsid(pid) == pid


def test_prometheus_reaches_every_job(stack: Stack) -> None:
    """`up` is 1 for every job of the contract, and Prometheus sends alerts to the Alertmanager."""
    expected = dict.fromkeys(JOBS, 1.0)

    eventually(lambda: stack.query("min by (job) (up)") == expected, "up == 1 for every job")

    found = httpx.get(stack.settings.url("PROMETHEUS_PORT", "/api/v1/alertmanagers")).json()
    assert len(found["data"]["activeAlertmanagers"]) == 1


def test_predictions_arrive_at_fiddler(stack: Stack, fiddler: Fiddler) -> None:
    """The whole way: locust, model, spool, publisher, Fiddler's own client, a stand-in for it."""
    assert stack.settings.with_fiddler

    eventually(lambda: len(fiddler.store.all_events()) >= 100, "100 predictions at Fiddler")

    assert fiddler.store.counts["orphans"] == 0
    assert [len(rows) for rows in fiddler.store.datasets.values()] == [1]


def test_predictions_arrive_in_the_log(stack: Stack, log: Path, fiddler: Fiddler) -> None:
    """The directory is relative to the checkout, and what is there is what Fiddler gets."""
    assert stack.settings.log_directory
    assert stack.settings.log_directory.samefile(log.parent / log.name)

    def rows() -> set[str] | None:
        found = read_rows(str(log), "predictions")["prediction_id"].to_pylist()
        assert len(found) == len({*found})
        return {*found} if len(found) >= 100 else None

    written = eventually(rows, "100 predictions in the log")
    eventually(
        lambda: written <= fiddler.store.all_events().keys(), "the same predictions at Fiddler"
    )


@pytest.mark.parametrize(
    "family", ["http_requests_total", "model_predictions_total", "model_input_rejected_total"]
)
def test_traffic_flows(stack: Stack, family: str) -> None:
    """Requests, predictions and rejections have a rate above zero."""
    rate = f"sum by (job) (rate({family}[1m]))"

    eventually(lambda: stack.query(rate).get("model", 0) > 0, f"{rate} > 0", timeout=90)


def test_locust_finds_nothing_wrong(stack: Stack) -> None:
    """The traffic began after the model was ready, so not one of its requests failed."""
    eventually(
        lambda: stack.query("sum by (job) (locust_requests_total)").get("locust", 0) > 0,
        "locust's requests are counted",
    )

    assert stack.query("sum by (job) (locust_failures_total)") == {"locust": 0}


def test_status_shows_every_service_and_the_password(stack: Stack) -> None:
    """`status` exits 0, shows every service as ready, and the password that Grafana made."""
    status = stack.task("status")

    password = setup.password_file(stack.settings).read_text().strip()
    assert status.returncode == 0, status.stdout + status.stderr
    assert set(re.findall(r"^([\w-]+) +ready ", status.stdout, re.MULTILINE)) == PROGRAMS
    assert len(password) >= 20
    assert f"password {password}" in status.stdout


def test_the_report_is_served_and_linked(stack: Stack) -> None:
    """`up` and `status` name its address; it says how the model is, and `up` not the password."""
    up, status = stack.task("up"), stack.task("status")
    url = stack.settings.url("REPORT_PORT")
    page = httpx.get(url, timeout=60)

    assert page.status_code == 200
    assert "<title>ML monitoring: " in page.text
    assert (stack.settings.var / "report" / "index.html").read_text() == page.text
    assert re.search(rf"^report +{url}$", up.stdout, re.MULTILINE)
    assert re.search(rf"^report +ready +{url}$", status.stdout, re.MULTILINE)
    assert f"password in {setup.password_file(stack.settings)}" in up.stdout
    assert setup.password_file(stack.settings).read_text().strip() not in up.stdout


def test_grafana_gets_the_addresses_of_this_stack(stack: Stack) -> None:
    """Grafana listens on this machine only, with the checkout's provisioning."""
    given = json.loads((stack.settings.var / "grafana" / "started.json").read_text())

    assert given["arguments"][0] == "server"
    assert given["url"] == stack.settings.url("PROMETHEUS_PORT")
    assert given["settings"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert Path(given["settings"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()
    assert Path(given["settings"]["GF_PATHS_PROVISIONING"], "dashboards").is_dir()
    assert setup.password_file(stack.settings).read_text() not in given["settings"].values()


def test_logs_of_an_unknown_service_name_the_services(stack: Stack) -> None:
    """Whoever mistypes a service gets the names there are."""
    logs = stack.task("logs", "--", "modle")

    names = ", ".join(sorted({*PROGRAMS, "supervisord"}))
    assert logs.returncode == 1
    assert logs.stderr.splitlines() == [f"logs: no log of modle; there are: {names}"]


def test_a_reader_that_goes_away_is_no_error(stack: Stack) -> None:
    """`./task status | head -1` prints one line and no traceback."""
    environment = stack.environment | {"PATH": os.environ["PATH"]}
    command = f"set -o pipefail; '{ROOT}/task' status | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, check=False
    )

    assert done.stdout.splitlines() == [f"native stack, data in {stack.settings.var}"]
    assert done.stderr == ""


def test_each_program_has_only_its_own_secrets(stack: Stack) -> None:
    """The publisher's token is in the environment of the publisher only."""
    programs = Supervisor(stack.settings.socket).processes()
    holders = {
        name
        for name, program in programs.items()
        if TOKEN.encode() in Path(f"/proc/{program.pid}/environ").read_bytes()
    }

    assert holders == {"publisher"}


def test_logs_are_for_their_user_only(stack: Stack) -> None:
    """Neither group nor others can read what the programs write."""
    logs = list((stack.settings.var / "log").glob("*.log"))

    assert logs
    assert {path.stat().st_mode & 0o077 for path in logs} == {0}


def test_a_reload_takes_what_was_trained(stack: Stack, tmp_path: Path) -> None:
    """Another version is served, and one that is corrupt is not; the command says so."""
    name = stack.settings.var / "bundle"
    original = shutil.copytree(name, tmp_path / "original")
    other = shutil.copytree(name, tmp_path / "other")
    edit_manifest(other, version="b" * 12)
    publish(other, name)
    taken = stack.task("reload")
    (name / "trees.npy").write_bytes(b"")
    kept = stack.task("reload")
    status = stack.task("status")
    publish(original, name)
    back = stack.task("reload")

    assert taken.stdout == f"version {'b' * 12} is served; it was taken\n", taken.stderr
    assert kept.returncode != 0
    assert f"version {'b' * 12} is kept: " in kept.stderr
    assert "trees.npy is corrupt" in kept.stderr
    assert status.returncode == 0, status.stdout + status.stderr
    assert "it was taken" in back.stdout, back.stderr
    master = Supervisor(stack.settings.socket).processes()["model"].pid
    workers = Path(f"/proc/{master}/task/{master}/children")
    eventually(lambda: len(workers.read_text().split()) == 2, "the old workers have ended")


def test_up_starts_a_service_that_gave_up(stack: Stack) -> None:
    """`status` exits 1 while a service is stopped, and `up` starts it again, and only it."""
    supervisor = Supervisor(stack.settings.socket)
    before = _pids(stack)
    supervisor.stop("locust")
    stopped = stack.task("status")

    up = stack.task("up")

    assert stopped.returncode == 1
    assert re.search(r"^locust +stopped", stopped.stdout, re.MULTILINE)
    assert up.returncode == 0, up.stdout + up.stderr
    assert len(before - _pids(stack)) == 1


def test_down_leaves_data_and_no_process(stack: Stack) -> None:
    """After `down` no process, no socket and no metrics are left; the data is."""
    pids = _pids(stack)
    metrics = setup.metrics_directory(stack.settings)
    assert len(pids) > len(JOBS)
    assert any(metrics.iterdir())

    down = stack.task("down")

    assert down.returncode == 0, down.stdout + down.stderr
    assert not _pids(stack)
    assert not native.running(stack.settings)
    assert not metrics.exists()
    assert (stack.settings.var / "prometheus" / "data").is_dir()
    assert stack.task("status").returncode == 1
    assert "no native stack" in stack.task("down").stdout


def test_down_ends_what_a_killed_supervisord_left(stack: Stack) -> None:
    """`up` does not start beside the orphans of a killed supervisord; `down` ends them."""
    assert stack.task("up").returncode == 0
    supervisor = Supervisor(stack.settings.socket)
    os.kill(supervisor.pid(), signal.SIGKILL)
    eventually(lambda: not supervisor.answers(), "supervisord is gone")
    left = _pids(stack)

    up = stack.task("up")
    down = stack.task("down")

    assert len(left) >= len(JOBS)
    assert up.returncode == 1
    assert "./task down" in up.stderr
    assert down.returncode == 0, down.stdout + down.stderr
    assert not _pids(stack)


def test_clean_removes_the_data(stack: Stack) -> None:
    """`clean` takes the stack's directory away."""
    clean = stack.task("clean")

    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert not stack.settings.var.exists()
