"""Fiddler's own client, and what its many ways to fail mean. Nothing else imports it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

# The client would retry by itself, with sleeps that no stop interrupts and without a look at
# Retry-After, for five minutes: so it tries once (0 would make every call fail) and the publisher
# retries. It reads this at every fdl.init; tqdm reads its variable when imported.
os.environ["FIDDLER_CLIENT_RETRY_MAX_DURATION_SECONDS"] = "0.1"
os.environ["TQDM_DISABLE"] = "1"

import fiddler as fdl
import pydantic
import requests
from fiddler.exceptions import BaseError

from publisher.errors import Cause, HopelessError, RefusedError, TransientError
from publisher.events import (
    EVENT_ID,
    EVENT_TIME,
    TIME_FORMAT,
    Event,
    ModelName,
    model_name,
    output_name,
)
from publisher.settings import Settings
from publisher.spool import Column, Header, Range

UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_LARGE, TOO_MANY = 401, 403, 404, 413, 429
# What a server, or something in front of it, answers that has nothing to do with the events.
_NOT_ABOUT_EVENTS = (405, 407, 408, 421, 423, 425, 426, TOO_MANY, 501)
_SERVER_ERROR = 500
_LONGEST_WORDS = 2_000

log = logging.getLogger(__name__)


class UnknownModelError(RefusedError):
    """Fiddler has no such model, and no segment says what it looks like."""


class Fiddler:
    """One organisation of one Fiddler instance; connects when first needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connected = False
        self._headers: dict[ModelName, Header] = {}
        self._models: dict[ModelName, fdl.Model] = {}

    def learn(self, header: Header) -> None:
        """Remember what a model looks like, for the day it has to be created."""
        self._headers[model_name(header)] = header

    def publish(self, name: ModelName, events: list[Event], *, update: bool) -> None:
        """Send at most 1,000 events, in one request.

        Raises TransientError, RefusedError or HopelessError.
        """
        model = self._model(name)
        try:
            with _meaning():
                model.publish_stream(events, update=update)
        except RefusedError as error:
            if error.status != NOT_FOUND:
                raise
            # Somebody deleted the model: the next try creates it.
            self._models.clear()
            raise TransientError("not_found", str(error)) from error

    def publish_baseline(self, name: ModelName, rows: Path, dataset: str) -> str | None:
        """Upload a CSV file of reference rows; return the id of Fiddler's job, None: it is there.

        Raises TransientError, RefusedError or HopelessError.
        """
        model = self._model(name)
        assert model.id is not None  # noqa: S101 for the type checker
        with _meaning():
            try:
                fdl.Dataset.from_name(dataset, model.id)
            except fdl.NotFound:
                job = model.publish_batch(
                    rows, environment=fdl.EnvType.PRE_PRODUCTION, dataset_name=dataset
                )
                return str(job.id)
            return None

    def job_state(self, job: str) -> tuple[str, str]:
        """Return the state of a job and its error, as Fiddler words them. Raises TransientError."""
        with _meaning():
            found = fdl.Job.get(job)
            return found.status or "", found.error_message or ""

    def _model(self, name: ModelName) -> "fdl.Model":
        if name not in self._models:
            try:
                with _meaning():
                    self._connect()
                    self._models[name] = self._find_or_create(name)
            except UnknownModelError:
                raise
            except RefusedError as error:  # not about events: they wait
                raise HopelessError(
                    "schema", f"Fiddler refuses project or model: {error}"
                ) from error
        return self._models[name]

    def _connect(self) -> None:
        if self._connected:
            return
        settings = self._settings
        try:
            fdl.init(
                settings.fiddler_url,
                settings.fiddler_auth_token.get_secret_value(),
                timeout=settings.fiddler_timeout,
                auto_attach_log_handler=False,
            )
        except fdl.IncompatibleClient as error:
            raise HopelessError("incompatible", str(error)) from error
        except fdl.ApiError as error:
            if error.code in (UNAUTHORIZED, FORBIDDEN, *_NOT_ABOUT_EVENTS):
                raise
            # Of the two calls of init, it is version-compatibility that answers 4xx.
            raise HopelessError("incompatible", str(error)) from error
        assert fdl.conn is not None  # noqa: S101 for the type checker
        found = fdl.conn.server_info.organization
        if settings.fiddler_org_id not in (found.name, str(found.id)):
            raise HopelessError(
                "organisation",
                f"the token is of organisation {found.name} ({found.id}),"
                f" FIDDLER_ORG_ID says {settings.fiddler_org_id}",
            )
        self._connected = True

    def _find_or_create(self, name: ModelName) -> "fdl.Model":
        project = fdl.Project.get_or_create(self._settings.fiddler_project or name.name)
        assert project.id is not None  # noqa: S101 for the type checker
        header = self._headers.get(name)
        try:
            model = fdl.Model.from_name(name.name, project.id, version=name.version)
        except fdl.NotFound:
            if header is None:
                words = f"Fiddler has no model {name.name} {name.version}"
                raise UnknownModelError(NOT_FOUND, words) from None
            model = self._create(header, project.id)
        if header is not None:
            _check(model, header)
        return model

    def _create(self, header: Header, project: UUID) -> "fdl.Model":
        model = new_model(header, project)
        try:
            model.create()
        except fdl.Conflict:  # another publisher was quicker
            return fdl.Model.from_name(header.model, project, version=header.version)
        log.info("created %s %s at Fiddler", header.model, header.version)
        return model


def new_model(header: Header, project: UUID) -> "fdl.Model":
    """Return the model that a segment's header describes, not created yet."""
    target = header.target
    columns = [
        *(_column(each.name, each, each.type) for each in header.features),
        _column(output_name(target.name), header.prediction),
        _column(target.name, target, target.type),
        fdl.Column(name=EVENT_ID, data_type=fdl.DataType.STRING),
        fdl.Column(name=EVENT_TIME, data_type=fdl.DataType.TIMESTAMP),
    ]
    names = [column.name for column in columns]
    if len(set(names)) < len(names):
        raise HopelessError("schema", f"two columns have one name: {', '.join(sorted(names))}")
    return fdl.Model(
        name=header.model,
        version=header.version,
        project_id=project,
        schema=fdl.ModelSchema(columns=columns),
        spec=fdl.ModelSpec(
            inputs=[each.name for each in header.features],
            outputs=[output_name(target.name)],
            targets=[target.name],
            metadata=[EVENT_ID, EVENT_TIME],
        ),
        task=fdl.ModelTask.REGRESSION,
        event_id_col=EVENT_ID,
        event_ts_col=EVENT_TIME,
        event_ts_format=TIME_FORMAT,
    )


def _column(name: str, values: Column | Range, type_: str = "number") -> "fdl.Column":
    integer = type_ == "integer"
    return fdl.Column(
        name=name,
        data_type=fdl.DataType.INTEGER if integer else fdl.DataType.FLOAT,
        min=values.minimum,
        max=values.maximum,
    )


def _check(model: "fdl.Model", header: Header) -> None:
    """Refuse a model of this name that somebody made otherwise: events would not fit."""
    expected = new_model(header, UUID(int=0))
    wanted = {column.name for column in expected.schema.columns}
    found = {column.name for column in model.schema.columns}
    if missing := wanted - found:
        raise HopelessError(
            "schema",
            f"Fiddler's {header.model} {header.version} lacks {', '.join(sorted(missing))}",
        )
    if model.event_id_col != EVENT_ID:
        raise HopelessError(
            "schema",
            f"Fiddler's {header.model} {header.version} takes {model.event_id_col} for the id of"
            f" events, not {EVENT_ID}: labels would find none",
        )


@contextmanager
def _meaning() -> Iterator[None]:
    """Turn every exception of the client into one of ours."""
    try:
        yield
    except (TransientError, RefusedError, HopelessError):
        raise
    except fdl.ApiError as error:  # an answer in Fiddler's own words
        raise _answered(error.code, _words(error)) from error
    except requests.HTTPError as error:  # an answer of somebody else: of a proxy, mostly
        raise _foreign(error) from error
    except (requests.RequestException, BaseError) as error:
        raise _unanswered(error) from error
    except (pydantic.ValidationError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise TransientError("protocol", f"not Fiddler's protocol: {_first_line(error)}") from error


def _answered(status: int, words: str) -> Exception:
    if status in (UNAUTHORIZED, FORBIDDEN):
        return HopelessError("denied", f"Fiddler denies access ({status}): {words}")
    if status == TOO_MANY:
        return TransientError("throttled", words)
    if status >= _SERVER_ERROR and status not in _NOT_ABOUT_EVENTS:
        return TransientError("server_error", words)
    if status in _NOT_ABOUT_EVENTS:
        return TransientError("protocol", words)
    return RefusedError(status, words)


def _foreign(error: requests.HTTPError) -> Exception:
    """Return what an answer without Fiddler's words means: it is no verdict on the events.

    But a proxy that finds a body too large will always find it so.
    """
    status, words = _status(error), _text(error)
    if status in (UNAUTHORIZED, FORBIDDEN):
        return HopelessError("denied", f"access is denied ({status}): {words}")
    if status == TOO_LARGE:
        return RefusedError(status, words)
    return TransientError("protocol", f"{status}: {words}")


def _unanswered(error: Exception) -> TransientError:
    """Return what the end of the client's one try means; its cause tells."""
    reason = error.__cause__ or error
    if isinstance(reason, requests.HTTPError):
        status = _status(reason)
        cause: Cause = "throttled" if status == TOO_MANY else "server_error"
        return TransientError(cause, f"{status}: {_text(reason)}", _wait(reason))
    if isinstance(reason, requests.Timeout):
        return TransientError("timeout", _first_line(reason))
    if isinstance(reason, requests.RequestException):
        return TransientError("connection", _first_line(reason))
    return TransientError("protocol", _first_line(error))


def _status(error: requests.HTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def _wait(error: requests.HTTPError) -> float:
    """Return the seconds that Retry-After asks for; a date there is not read."""
    headers = {} if error.response is None else error.response.headers
    seconds = headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() else 0.0


def _words(error: "fdl.ApiError") -> str:
    details = "; ".join(f"{each.reason}: {each.message}" for each in error.errors or ())
    return f"{error.message} ({details})"[:_LONGEST_WORDS] if details else error.message


def _text(error: requests.HTTPError) -> str:
    return "" if error.response is None else " ".join(error.response.text.split())[:200]


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]
