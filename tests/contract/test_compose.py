"""compose.yaml hardens every service, and agrees with the files beside it."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.settings import Settings
from tests.support.machine import require
from tools import ROOT, version
from tools.stack import project, releases, services
from tools.stack import settings as stack_settings
from tools.stack.settings import read_env_file

COMPOSE = ROOT / "compose.yaml"
CONFIG: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = CONFIG["services"]
LOG = "/mnt/prediction-log"
PYTHON = "python:3.13-slim-trixie"

# Each service's ports inside its container, and the variables that move them outside.
PORTS = {
    one.name: {stack_settings.PORTS[variable]: variable for variable in one.ports}
    for one in services.SERVICES
}
OURS = [name for name, service in SERVICES.items() if "build" in service]

every_service = pytest.mark.parametrize("name", SERVICES)
IMAGES = {name: SERVICES[name]["build"]["target"] for name in OURS}

every_own_service = pytest.mark.parametrize("name", OURS)
every_image = pytest.mark.parametrize("name", sorted({*IMAGES.values()}))


def dockerfile(name: str) -> str:
    """Return the text of a service's Dockerfile."""
    path: str = SERVICES[name]["build"]["dockerfile"]
    return (ROOT / path).read_text("utf-8")


def stage(name: str) -> str:
    """Return the instructions of one stage of the Dockerfile."""
    text = re.sub(r"^#.*\n", "", dockerfile("model"), flags=re.MULTILINE)
    stages = re.split(r"^(?=FROM )", text, flags=re.MULTILINE)
    [found] = [each for each in stages if re.match(rf"FROM \S+ AS {name}\n", each)]
    return found


def settings(name: str) -> dict[str, str]:
    """Return a service's settings with their defaults."""
    directory = {"prediction-log": "publisher/log"}.get(name, name)
    return read_env_file(ROOT / "services" / directory / "settings.env")


def interpolated(text: str, **variables: str) -> str:
    """Return a string of compose.yaml as Compose does with these variables."""

    def value(found: re.Match[str]) -> str:
        name, operator, word = found.groups()
        given = variables[name]
        return (given and word) if operator == "+" else (given or word)

    return re.sub(r"\$\{(\w+):([-+])([^}]*)\}", value, text)


def seconds(duration: str) -> int:
    """Return a duration of Compose, in s."""
    return int(duration.removesuffix("s"))


def test_project_has_no_fixed_name() -> None:
    """With one, two clones would share containers, and `down --volumes` data."""
    assert "name" not in CONFIG


def test_services_stand_in_flow_order() -> None:
    """A reader follows the data from top to bottom."""
    assert list(SERVICES) == [
        "locust",
        "model",
        "publisher",
        "prediction-log",
        "prometheus",
        "alertmanager",
        "grafana",
    ]


@every_service
def test_service_is_explained_in_one_comment_line(name: str) -> None:
    """Above each service stands what it does."""
    lines = COMPOSE.read_text("utf-8").splitlines()
    place = lines.index(f"  {name}:")

    assert lines[place - 1].startswith("  # ")
    assert not lines[place - 2].strip().startswith("#")


@every_service
def test_service_is_locked_up(name: str) -> None:
    """Neither root, nor capabilities, nor a root file system to write to."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].partition(":")[0]) > 0
    assert not {"privileged", "cap_add", "network_mode", "pid", "container_name"} & set(service)


@every_service
def test_service_is_bounded_and_watched(name: str) -> None:
    """It cannot take all memory or disk, it is started again, and it has a health check."""
    service = SERVICES[name]

    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert seconds(service["healthcheck"]["interval"]) <= 10


@every_service
def test_ports_are_the_contracts_and_on_loopback_only(name: str) -> None:
    """Nobody else on the network sees the stack, and .env can move every port."""
    published = [
        f"127.0.0.1:${{{variable}:-{port}}}:{port}" for port, variable in PORTS[name].items()
    ]

    assert SERVICES[name]["ports"] == published


@every_service
def test_order_matters_only_with_a_condition(name: str) -> None:
    """A dependency without a condition promises nothing."""
    for dependency in SERVICES[name].get("depends_on", {}).values():
        assert dependency["condition"] == "service_healthy"


@every_service
def test_what_is_mounted_from_the_checkout_is_read_only(name: str) -> None:
    """No container writes into the checkout; what it keeps is in a named volume.

    Except that the prediction log is where the user wants it.
    """
    for mount in SERVICES[name].get("volumes", []):
        if isinstance(mount, dict):
            if mount["target"] == LOG:
                continue
            assert mount["read_only"] is True
            continue
        source: str = re.sub(r"\$\{\w+:\+.*?\}", "", mount).partition(":")[0]
        if source.startswith("./"):
            assert mount.endswith(":ro")
            assert (ROOT / source).exists()
        else:
            assert source in CONFIG["volumes"]


def test_images_are_the_agreed_versions() -> None:
    """The same releases that the native stack downloads, and never a floating tag."""
    images = {name: service["image"] for name, service in SERVICES.items() if name not in OURS}

    assert images == {
        "prometheus": f"prom/prometheus:v{releases.VERSIONS['prometheus']}",
        "alertmanager": f"prom/alertmanager:v{releases.VERSIONS['alertmanager']}",
        "grafana": f"grafana/grafana:{releases.VERSIONS['grafana']}",
    }


@every_own_service
def test_own_image_is_called_after_its_service(name: str) -> None:
    """Folder = service = image, and it is built: a registry may have one of somebody else."""
    service = SERVICES[name]

    image = {"prediction-log": "publisher"}.get(name, name)  # its destination makes the difference
    tag = f"${{IMAGE_TAG:-{version.read()}}}"
    assert service["image"] == f"${{IMAGE_PREFIX:-ml-monitoring}}/{image}:{tag}"
    assert service["pull_policy"] == "build"
    assert service["build"] == {
        "context": ".",
        "dockerfile": "services/Dockerfile",
        "target": image,
        "args": {"EXAMPLE": "${EXAMPLE:-}", "MODEL_LIBRARIES": "${MODEL_LIBRARIES:-}"},
    }


@every_own_service
def test_every_setting_can_be_overridden(name: str) -> None:
    """Compose's default is that of settings.env, and .env's value goes before it."""
    environment = SERVICES[name]["environment"]

    assert {key: environment.get(key) for key in settings(name)} == {
        key: f"${{{key}:-{value}}}" for key, value in settings(name).items()
    }


def test_an_override_reaches_its_service_and_a_secret_no_other(tmp_path: Path) -> None:
    """Every setting and every secret is given in .env, and Compose says who gets it."""
    owners = {key: {name} for name in OURS for key in settings(name)} | {
        "MODEL_PREDICTION_KEYS": {"model"},
        "FIDDLER_AUTH_TOKEN": {"publisher"},
        "AWS_SECRET_ACCESS_KEY": {"prediction-log"},
        "GF_SECURITY_ADMIN_PASSWORD": {"grafana"},
    }
    env_file = tmp_path / ".env"
    env_file.write_text("".join(f"{key}=given-{key}\n" for key in owners))
    words = ("compose", "--env-file", str(env_file), "--profile", "*", "config", "--format", "json")
    done = subprocess.run(
        [require("docker"), *words],
        cwd=ROOT,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        capture_output=True,
        check=True,
    )
    services = json.loads(done.stdout)["services"]

    assert owners == {
        key: {
            name
            for name, service in services.items()
            if f"given-{key}" in (service.get("environment") or {}).values()
        }
        for key in owners
    }


@pytest.mark.parametrize(
    ("given", "source", "path"),
    [("", "/dev/null", "/srv/bundle"), ("var/other", "var/other", "/mnt/srv/bundle")],
)
@pytest.mark.parametrize(("name", "key"), [("model", "MODEL_BUNDLE"), ("locust", "LOCUST_BUNDLE")])
def test_a_bundle_of_this_machine_goes_before_the_images(
    name: str, key: str, given: str, source: str, path: str
) -> None:
    """Model and traffic read the directory that MODEL_BUNDLE names, else the image's."""
    service = SERVICES[name]
    [mount] = [each for each in service["volumes"] if isinstance(each, dict)]

    assert interpolated(mount["source"], MODEL_BUNDLE=given) == source
    assert interpolated(service["environment"][key], MODEL_BUNDLE=given) == path
    assert mount["target"] == "/mnt/srv/bundle"
    assert mount["read_only"] is True
    # A directory that is missing is an error, not an empty one made by root.
    assert mount["bind"] == {"create_host_path": False}
    assert f"{key}=/srv/bundle" in stage(name)


@pytest.mark.parametrize(
    ("given", "source", "root"),
    [
        ({}, "/dev/null", LOG),
        ({"PREDICTION_LOG": "var/log"}, "var/log", LOG),
        (
            {"PREDICTION_LOG_STORE": "s3://bucket/log", "PREDICTION_LOG_MOUNT": "/dev/null"},
            *("/dev/null", "s3://bucket/log"),
        ),
    ],
)
def test_the_log_is_a_mounted_directory_or_an_object_store(
    given: dict[str, str], source: str, root: str
) -> None:
    """A directory must exist, so that it belongs to whoever made it."""
    names = ("PREDICTION_LOG", "PREDICTION_LOG_STORE", "PREDICTION_LOG_MOUNT")
    variables = dict.fromkeys(names, "") | given
    log = SERVICES["prediction-log"]
    [mount] = [each for each in log["volumes"] if isinstance(each, dict)]
    outer, _, inner = mount["source"].removesuffix("}").partition(":-")
    mounted = interpolated(f"{outer}:-}}", **variables) or interpolated(inner, **variables)

    assert mounted == source
    assert interpolated(log["environment"]["PREDICTION_LOG"], **variables) == root
    assert mount["target"] == LOG
    assert mount["bind"] == {"create_host_path": False}


@every_image
def test_dockerfile_and_compose_agree(name: str) -> None:
    """The same user, health check and ports, with Compose and without; every base is one tag."""
    text = stage(name)
    probe = SERVICES[name]["healthcheck"]["test"]
    words = ", ".join(f'"{word}"' for word in probe[1:])

    assert f"USER {SERVICES[name]['user']}\n" in text
    assert f"CMD [{words}]\n" in text
    assert f"EXPOSE {' '.join(map(str, PORTS[name]))}\n" in text


def test_every_image_is_made_of_one_base() -> None:
    """Stages that are no other stage's are one tag's."""
    text = dockerfile("model")
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    stages = re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)

    assert {base for base in bases if base not in stages} == {PYTHON}
    assert len(bases) == len(stages)


@every_image
def test_packages_are_installed_from_hashes_only(name: str) -> None:
    """An image holds what the lock of its service names, and one script installs it."""
    script = (ROOT / "services" / "install.sh").read_text("utf-8")
    text = stage(f"{name}-packages")

    assert re.findall(r"pip .*install (.*)", script) == ['--require-hashes -r "$1"']
    assert f"COPY services/{name}/requirements.txt /\n" in text
    assert text.count("/install.sh /requirements.txt") == 1
    assert f"COPY --from={name}-packages /venv /venv\n" in stage(name)


def test_every_service_is_scraped_at_its_name() -> None:
    """Service = job = file of targets = host name, and the port is one of the service's."""
    targets = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in _target_files()}

    assert set(targets) == set(SERVICES)
    for name, [group] in targets.items():
        [(host, _, port)] = [target.partition(":") for target in group["targets"]]
        assert (host, group["labels"]["job"]) == (name, name)
        assert int(port) in PORTS[name]


def test_env_example_lists_what_compose_reads() -> None:
    """Every variable is documented there once, commented out, with the default; and no others."""
    # The default of one variable is another one.
    text = COMPOSE.read_text("utf-8").replace("${PREDICTION_LOG:-/dev/null}}", "}")
    found = re.findall(r"\$\{(\w+)(?::([-+])([^}]*))?\}", text)
    read = {name: "" for name, _, _ in found}
    # What stands behind :+ is no default: it takes the value's place.
    read |= {name: default for name, operator, default in found if operator == "-"}
    read["COMPOSE_PROFILES"] = "fiddler,prediction-log"  # by Compose itself
    read[project.VARIABLE] = ""  # likewise
    read |= releases.SITES  # by the native stack
    read["REPORT_PORT"] = "3001"  # likewise: containers have Grafana
    read |= {f"{name.upper()}_RELEASE": version for name, version in releases.VERSIONS.items()}
    example = (ROOT / ".env.example").read_text("utf-8")
    documented = re.findall(r"^#(\w+)=(.*)$", example, re.MULTILINE)

    assert sorted(read) == sorted(name for name, _ in documented)
    assert all(read[name] == default for name, default in documented if not _has_none(name))
    assert all(line.startswith("#") for line in example.splitlines() if line)


def test_secrets_have_no_default() -> None:
    """Without .env there is no password, key or webhook that somebody could know."""
    text = COMPOSE.read_text("utf-8")

    assert "${MODEL_PREDICTION_KEYS:-}" in text
    assert "${GF_SECURITY_ADMIN_PASSWORD:-}" in text
    assert CONFIG["secrets"] == {
        "fiddler_ca": {"file": "${FIDDLER_CA_FILE:-/dev/null}"},
        "slack_webhook_url": {"file": "${SLACK_WEBHOOK_FILE:-/dev/null}"},
    }


def test_slack_secret_is_where_alertmanager_looks() -> None:
    """api_url_file is relative to the working directory, below which Compose mounts secrets."""
    alertmanager = SERVICES["alertmanager"]
    config = yaml.safe_load((ROOT / "prometheus" / "alertmanager.slack.yml").read_text("utf-8"))
    [slack] = [
        slack for receiver in config["receivers"] for slack in receiver.get("slack_configs", ())
    ]
    [secret] = alertmanager["secrets"]

    assert f"{alertmanager['working_dir']}/{slack['api_url_file']}" == f"/run/secrets/{secret}"


def test_model_has_time_to_finish_its_requests() -> None:
    """Docker kills the service later than the service itself gives up."""
    graceful: int = Settings.model_fields["graceful_timeout"].default

    assert seconds(SERVICES["model"]["stop_grace_period"]) > graceful


def test_metrics_directory_is_in_memory_and_the_users_own() -> None:
    """The directory that the image names is a tmpfs of the image's user, closed to others."""
    [tmpfs] = SERVICES["model"]["tmpfs"]
    path, _, options = tmpfs.partition(":")
    uid, _, gid = SERVICES["model"]["user"].partition(":")

    assert f"PROMETHEUS_MULTIPROC_DIR={path}\n" in stage("model")
    assert {f"uid={uid}", f"gid={gid}", "mode=0700"} < set(options.split(","))


def test_builder_sees_only_what_is_let_in() -> None:
    """.dockerignore is a list of what is allowed, so nothing secret can slip into an image."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]

    assert patterns[0] == "*"
    assert [line for line in patterns if line.startswith("!")] == ["!services", "!examples"]
    assert "**/*.secret" in patterns


def test_ci_brings_the_images_that_are_used() -> None:
    """The stand-ins of CI are tagged like the images that Compose and the Dockerfiles name."""
    script = (ROOT / ".ci" / "base-images.sh").read_text("utf-8")
    brought = dict(re.findall(r"^(\w+)=(\S+:\S+)$", script, re.MULTILINE))
    used = {name: service["image"] for name, service in SERVICES.items() if name not in OURS}

    assert brought == {"python": PYTHON, **used}


def _target_files() -> list[Path]:
    prometheus = ROOT / "prometheus"
    return sorted([*prometheus.glob("targets/*.yml"), *prometheus.glob("optional/*/*.yml")])


def _has_none(name: str) -> bool:
    """Return whether a variable has no default that a person could write down."""
    return name.endswith(("_KEYS", "_FILE", "_PASSWORD", "_BUNDLE", "_LOG", "_MOUNT", "_STORE"))
