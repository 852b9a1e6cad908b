"""The settings of the service, read from the environment; `python -m serving.settings` lists them.

OMP_NUM_THREADS and similar default to 1, because threads of several workers compete for cores.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65535)]


class SettingsError(Exception):
    """A setting is missing or invalid; the message is one line that names it."""


class Settings(BaseSettings):
    """The settings; each is read from the variable MODEL_<NAME> unless its field says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="MODEL_", env_ignore_empty=True, populate_by_name=True, frozen=True
    )

    bundle: Annotated[Path, Field(description="Directory of the model's bundle")]
    metrics_dir: Annotated[
        Path,
        Field(
            validation_alias=AliasChoices("PROMETHEUS_MULTIPROC_DIR", "metrics_dir"),
            description="Directory for the workers' metric files; on tmpfs, wiped at start",
        ),
    ]
    host: Annotated[str, Field(description="Address that both ports bind to")] = "127.0.0.1"
    port: Annotated[Port, Field(description="Port of the API")] = 8000
    metrics_port: Annotated[Port, Field(description="Port of /metrics")] = 8001
    workers: Annotated[int, Field(ge=1, le=256, description="Worker processes")] = 2
    graceful_timeout: Annotated[
        int,
        Field(
            ge=1,
            description="Seconds that requests in progress have to finish when the service stops",
        ),
    ] = 30
    fast_path: Annotated[
        bool, Field(description="Answer POST /predict before it becomes an ASGI request")
    ] = True
    max_body_bytes: Annotated[
        int, Field(ge=1024, description="Largest request body; a larger one is answered 413")
    ] = 2_000_000
    max_head_bytes: Annotated[
        int,
        Field(
            ge=4096, description="Largest request line and headers; larger ones are answered 431"
        ),
    ] = 65_536
    head_timeout: Annotated[
        int, Field(ge=1, description="Seconds that a request's head may take to arrive")
    ] = 10
    body_timeout: Annotated[
        int,
        Field(ge=1, description="Seconds that a body may take to arrive, or an answer to be read"),
    ] = 60
    # Longer than a proxy keeps its connections, or it may send a request into a closing one.
    idle_timeout: Annotated[
        int, Field(ge=1, description="Seconds that a connection stays open between requests")
    ] = 75
    max_connections: Annotated[
        int,
        Field(
            ge=1,
            description="Connections per worker; beyond, idle ones are closed, or it answers 503",
        ),
    ] = 1_000
    overload_seconds: Annotated[
        float,
        Field(gt=0, description="Seconds that a worker may be late before it answers 503"),
    ] = 1.0
    feedback_max_days: Annotated[
        int, Field(ge=1, description="Days after which a label is rejected as expired")
    ] = 365
    spool_dir: Annotated[
        Path | None,
        Field(description="Directory of the spool of predictions and labels; unset: no spool"),
    ] = None
    spool_log_dir: Annotated[
        Path | None,
        Field(
            description="Directory of the same spool for the prediction log, on the same file"
            " system; unset: none"
        ),
    ] = None
    spool_exclude: Annotated[
        frozenset[str],
        NoDecode,
        Field(description="Features that are never written to the spool, comma separated"),
    ] = frozenset()
    spool_max_bytes: Annotated[
        int,
        Field(
            ge=1_000_000,
            description="Largest size of the spool; the oldest segments are dropped first",
        ),
    ] = 1_000_000_000
    spool_segment_bytes: Annotated[
        int,
        Field(
            ge=100_000,
            validate_default=True,
            description="Size at which a worker starts another segment",
        ),
    ] = 16_000_000
    spool_segment_seconds: Annotated[
        int, Field(ge=1, description="Age at which a worker starts another segment")
    ] = 60
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="Lowest level logged")
    ] = "info"
    log_format: Annotated[
        Literal["json", "text"], Field(description="JSON for machines, text for people")
    ] = "json"
    prediction_keys: Annotated[
        SecretStr,
        Field(
            description="Secret keys of prediction ids, comma separated, 32 bytes or more each; the"
            " first one signs, all are accepted. Unset: each start generates a random key, so that"
            " labels for earlier predictions are rejected"
        ),
    ] = SecretStr("")

    @field_validator("spool_exclude", mode="before")
    @classmethod
    def _comma_separated(cls, text: object) -> object:
        if not isinstance(text, str):
            return text
        return tuple(each.strip() for each in text.split(",") if each.strip())

    @field_validator("spool_log_dir")
    @classmethod
    def _not_the_other_spool(cls, directory: Path | None, info: ValidationInfo) -> Path | None:
        other = info.data.get("spool_dir")
        if directory and other and directory.resolve() == other.resolve():
            raise ValueError("must differ from MODEL_SPOOL_DIR")
        return directory

    @field_validator("metrics_port")
    @classmethod
    def _not_the_api_port(cls, port: int, info: ValidationInfo) -> int:
        if port == info.data.get("port"):
            raise ValueError("must differ from MODEL_PORT")
        return port

    @field_validator("spool_segment_bytes")
    @classmethod
    def _fits_the_spool(cls, segment: int, info: ValidationInfo) -> int:
        # Each worker has an open segment, and there must be room for as many closed ones.
        needed = 2 * info.data.get("workers", 1) * segment
        if info.data.get("spool_max_bytes", needed) < needed:
            raise ValueError(f"MODEL_SPOOL_MAX_BYTES must be {needed} or more for these segments")
        return segment

    @field_validator("prediction_keys")
    @classmethod
    def _long_enough(cls, keys: SecretStr) -> SecretStr:
        if any(len(key) < 32 for key in split_keys(keys)):  # noqa: PLR2004 256 bits
            raise ValueError("a key has fewer than 32 bytes")
        return keys

    @property
    def spool_dirs(self) -> tuple[Path, ...]:
        """The directories of the spool, one for each reader; none without a spool."""
        return tuple(each for each in (self.spool_dir, self.spool_log_dir) if each)


def split_keys(keys: SecretStr) -> list[bytes]:
    """Return the configured keys, the signing one first."""
    return [key.strip().encode() for key in keys.get_secret_value().split(",") if key.strip()]


def read_settings() -> Settings:
    """Return the settings of this process's environment. Raises SettingsError."""
    try:
        return Settings()  # type: ignore[call-arg]  # the environment gives them
    except ValidationError as error:
        # Input and cause are omitted, because they may contain a secret.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise SettingsError(f"{variable(str(first['loc'][0]))}: {first['msg']}") from None


def variable(field: str) -> str:
    """Return the environment variable of a setting."""
    return "PROMETHEUS_MULTIPROC_DIR" if field in _METRICS_DIR else f"MODEL_{field.upper()}"


_METRICS_DIR = ("metrics_dir", "PROMETHEUS_MULTIPROC_DIR")


def _list_settings() -> None:
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else field.default
        print(f"{variable(name):<28}{default!s:<12}{field.description}")  # noqa: T201


if __name__ == "__main__":
    _list_settings()
