"""Every setting of the publisher, read from the environment."""

from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0)]


class SettingsError(Exception):
    """A setting is missing or invalid; the message is one line and names it."""


class Environment(BaseSettings):
    """Settings, each read from the upper-case environment variable; an empty one is not set."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)


class Settings(Environment):
    """The publisher's own settings."""

    model_spool_dir: Annotated[Path, Field(description="Spool directory of the model's workers")]
    model_spool_keep: Annotated[
        bool, Field(description="Keep published segments until the spool reaches its size limit")
    ] = False
    publisher_host: Annotated[str, Field(description="Bind address of /metrics")] = "127.0.0.1"
    publisher_metrics_port: Annotated[int, Field(ge=1, le=65535)] = 9647
    publisher_poll_seconds: Annotated[
        Seconds, Field(description="Seconds between two reads of an idle spool")
    ] = 1
    publisher_label_delay_seconds: Annotated[
        float,
        Field(ge=0, description="Seconds between publishing predictions and their labels"),
    ] = 300
    publisher_peers: Annotated[
        str,
        Field(
            pattern=r"^([^,:\s]+:[0-9]+(,[^,:\s]+:[0-9]+)*)?$",
            description="Addresses (host:port, comma separated) of all replicas' metrics",
        ),
    ] = ""
    publisher_rejected_limit: Annotated[
        int,
        Field(ge=1, description="Events rejected in a row after which the publisher stops"),
    ] = 10
    publisher_stopped_seconds: Annotated[
        Seconds,
        Field(description="Pause before the next try after a configuration error, up to 1.5 times"),
    ] = 600
    publisher_backoff_seconds: Annotated[
        Seconds, Field(description="Pause after the first failure; doubles with each further one")
    ] = 1
    publisher_backoff_max_seconds: Annotated[Seconds, Field(description="Longest pause")] = 60
    publisher_log_level: Annotated[
        str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Lowest level logged")
    ] = "INFO"
    publisher_destination: Annotated[
        str | None,
        Field(
            pattern=r"^[\w.]+:\w+$",
            description="Another destination than Fiddler, as module:class; docs/export.md",
        ),
    ] = None


class FiddlerSettings(Environment):
    """How to reach Fiddler."""

    fiddler_url: Annotated[str, Field(description="URL of the Fiddler instance, without a path")]
    fiddler_org_id: Annotated[
        str, Field(description="Name or id of the organisation that issued the token")
    ]
    fiddler_auth_token: Annotated[SecretStr, Field(description="API key (secret)")]
    fiddler_project: Annotated[
        str | None, Field(description="Fiddler project; defaults to the model's name")
    ] = None
    fiddler_timeout: Annotated[Seconds, Field(description="Timeout of a request in seconds")] = 100
    requests_ca_bundle: Annotated[Path | None, Field(description="Certificate authorities")] = None
    ssl_cert_file: Annotated[Path | None, Field(description="The same, by OpenSSL's name")] = None

    @field_validator("requests_ca_bundle", "ssl_cert_file")
    @classmethod
    def _exists(cls, path: Path | None) -> Path | None:
        if path is not None and not path.exists():
            raise ValueError(f"{path} does not exist")
        return path

    @field_validator("fiddler_url")
    @classmethod
    def _without_path(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not a URL such as https://example.fiddler.ai")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("must not have a path: Fiddler's client would ignore it")
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def verify(self) -> str | bool:
        """What certificates of servers are checked with: a file, or True for the built-in ones."""
        path = self.requests_ca_bundle or self.ssl_cert_file
        return str(path) if path else True


T = TypeVar("T", bound=Environment)


def read_settings(type_: type[T]) -> T:
    """Return settings from this process's environment. Raises SettingsError."""
    try:
        return type_()
    except ValidationError as error:
        # The input and the cause are left out: either may contain the secret.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise SettingsError(f"{str(first['loc'][0]).upper()}: {first['msg']}") from None
