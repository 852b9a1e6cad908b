"""The settings of the traffic, read from the environment; `python -m traffic.settings` lists them.

Host, users, spawn rate, run time and distribution are settings of locust, also named LOCUST_….
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from traffic.errors import TrafficError
from traffic.rows import HELD_OUT
from traffic.scenarios import SCENARIOS

Reader = Callable[[str], Any]


def _one_of(*allowed: str) -> Reader:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"none of {', '.join(allowed)}")
        return text

    return read


def _number(
    kind: type[int] | type[float], minimum: float = -math.inf, maximum: float = math.inf
) -> Reader:
    wanted = "a whole number" if kind is int else "a number"
    if math.isfinite(minimum):
        wanted += f" of at least {minimum:g}"
    if math.isfinite(maximum):
        wanted += f" and at most {maximum:g}"

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and minimum <= value <= maximum):
            raise ValueError(f"not {wanted}")
        return value

    return read


def _setting(default: object, read: Reader, description: str) -> Any:  # noqa: ANN401 as field()
    return field(default=default, metadata={"read": read, "description": description})


@dataclass(frozen=True)
class Settings:
    """The settings; each is read from the variable LOCUST_<NAME>."""

    bundle: str = _setting(
        "", str, "Directory of the bundle that the model serves; unset: MODEL_BUNDLE"
    )
    scenario: str = _setting(
        "steady",
        _one_of(*SCENARIOS),
        "Mix of requests: steady (like production) or malformed (all kinds of invalid requests)",
    )
    rows: str = _setting(
        HELD_OUT,
        str,
        "Rows sent: held_out (from training), drifted, gradual (increasingly drifted), or the path"
        " of a CSV file, absolute or relative to the bundle",
    )
    gradual_seconds: float = _setting(
        3600.0,
        _number(float, minimum=1),
        "Seconds in which gradual increases the share of drifted rows from 0 to 1",
    )
    requests_per_second_per_user: float = _setting(
        2.0, _number(float, minimum=0), "Request rate of each user; 0: as fast as possible"
    )
    seed: int = _setting(0, _number(int), "Determines every request of user k of process p")
    label_share: float = _setting(
        0.0,
        _number(float, minimum=0, maximum=1),
        "Share of the predictions whose label is sent to /feedback",
    )
    label_delay_seconds: float = _setting(
        60.0, _number(float, minimum=0), "Seconds between a prediction and its label"
    )
    label_shift: float = _setting(
        0.0,
        _number(float),
        "Added to every label, which simulates concept drift; moves a class by so many places",
    )
    metrics_host: str = _setting("127.0.0.1", str, "Address that the exporter binds to")
    metrics_port: int = _setting(
        9646, _number(int, minimum=1, maximum=65535), "Port of the exporter's /metrics"
    )


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings of an environment; an empty variable is unset. Raises TrafficError."""
    values = {}
    for each in fields(Settings):
        if text := environment.get(variable(each.name)):
            try:
                values[each.name] = each.metadata["read"](text)
            except ValueError as error:
                raise TrafficError(f"{variable(each.name)}: {text!r} is {error}") from None
    values.setdefault("bundle", environment.get("MODEL_BUNDLE", ""))
    if not values["bundle"]:
        raise TrafficError(f"{variable('bundle')}: must be set to the directory of the bundle")
    return Settings(**values)


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"LOCUST_{name.upper()}"


def _list_settings() -> None:
    for each in fields(Settings):
        description = each.metadata["description"]
        print(f"{variable(each.name):<37}{each.default!s:<12}{description}")  # noqa: T201


if __name__ == "__main__":
    _list_settings()
