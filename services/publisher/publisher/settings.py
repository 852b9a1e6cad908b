"""Every setting of the publisher, read from the environment."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0)]


class SettingsError(Exception):
    """A setting is missing or wrong; the message is one line and names it."""


class Settings(BaseSettings):
    """The publisher's settings; each is the environment variable of its name, in capitals."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    fiddler_url: Annotated[str, Field(description="Address of the Fiddler instance, without path")]
    fiddler_org_id: Annotated[str, Field(description="Name or id of the token's organisation")]
    fiddler_auth_token: Annotated[SecretStr, Field(description="API key, a secret")]
    fiddler_project: Annotated[
        str | None, Field(description="Project; unset: called as the model")
    ] = None
    fiddler_timeout: Annotated[Seconds, Field(description="Seconds that a request may take")] = 100
    model_spool_dir: Annotated[Path, Field(description="The spool, as the model's workers have it")]
    model_spool_keep: Annotated[
        bool, Field(description="Keep published segments, until the spool's bound removes them")
    ] = False
    publisher_host: Annotated[str, Field(description="Address of /metrics")] = "127.0.0.1"
    publisher_metrics_port: Annotated[int, Field(ge=1, le=65535)] = 9647
    publisher_poll_seconds: Annotated[
        Seconds, Field(description="Pause before looking again into a spool that had nothing new")
    ] = 1
    publisher_label_delay_seconds: Annotated[
        float,
        Field(ge=0, description="How long Fiddler has to store predictions before their labels"),
    ] = 10
    publisher_backoff_seconds: Annotated[
        Seconds, Field(description="Pause after a first failure; it doubles with each further one")
    ] = 1
    publisher_backoff_max_seconds: Annotated[Seconds, Field(description="Longest such pause")] = 60
    publisher_log_level: Annotated[
        str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level logged")
    ] = "INFO"

    @field_validator("fiddler_url")
    @classmethod
    def _without_path(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an address like https://example.fiddler.ai")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("a path is in it: Fiddler's client would ignore it")
        return f"{parts.scheme}://{parts.netloc}"


def read_settings() -> Settings:
    """Return the settings of this process's environment. Raises SettingsError."""
    try:
        return Settings()  # type: ignore[call-arg]  # the environment gives them
    except ValidationError as error:
        # Neither the input nor the cause: one of them may be the secret.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise SettingsError(f"{str(first['loc'][0]).upper()}: {first['msg']}") from None
