"""Wraps Fiddler's own client and translates its exceptions. No other module imports it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

# By default the client retries for five minutes, ignores Retry-After, and sleeps in a way that a
# stop cannot interrupt. So it tries once (0 would make every call fail) and the publisher retries.
# The client reads its variable in every fdl.init; tqdm reads its own when it is imported.
os.environ["FIDDLER_CLIENT_RETRY_MAX_DURATION_SECONDS"] = "0.1"
os.environ["TQDM_DISABLE"] = "1"

import fiddler as fdl
import pydantic
import requests
from fiddler.exceptions import BaseError

from publisher.errors import Cause, FatalError, RejectedError, TransientError
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
# Statuses of a server or proxy that are unrelated to the events in the request.
_NOT_ABOUT_EVENTS = (405, 407, 408, 421, 423, 425, 426, TOO_MANY, 501)
_SERVER_ERROR = 500
_LONGEST_MESSAGE = 2_000

log = logging.getLogger(__name__)


class UnknownModelError(RejectedError):
    """Fiddler has no such model, and no registered header describes it."""


class Fiddler:
    """One organisation of one Fiddler instance; connects on first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connected = False
        self._headers: dict[ModelName, Header] = {}
        self._models: dict[ModelName, fdl.Model] = {}

    def register(self, header: Header) -> None:
        """Store the description of a model, in case it has to be created."""
        self._headers[model_name(header)] = header

    def publish(self, name: ModelName, events: list[Event], *, update: bool) -> None:
        """Send at most 1,000 events, in one request.

        Raises TransientError, RejectedError or FatalError.
        """
        model = self._model(name)
        try:
            with _translated_errors():
                model.publish_stream(events, update=update)
        except RejectedError as error:
            if error.status != NOT_FOUND:
                raise
            # The model was deleted; the next try creates it.
            self._models.clear()
            raise TransientError("not_found", str(error)) from error

    def publish_baseline(self, name: ModelName, rows: Path, dataset: str) -> str | None:
        """Upload a CSV file of reference rows; return the job's id, or None if the dataset exists.

        Raises TransientError, RejectedError or FatalError.
        """
        model = self._model(name)
        assert model.id is not None  # noqa: S101 for the type checker
        with _translated_errors():
            try:
                fdl.Dataset.from_name(dataset, model.id)
            except fdl.NotFound:
                job = model.publish_batch(
                    rows, environment=fdl.EnvType.PRE_PRODUCTION, dataset_name=dataset
                )
                return str(job.id)
            return None

    def job_state(self, job: str) -> tuple[str, str]:
        """Return Fiddler's state and error message of a job. Raises TransientError."""
        with _translated_errors():
            found = fdl.Job.get(job)
            return found.status or "", found.error_message or ""

    def _model(self, name: ModelName) -> "fdl.Model":
        if name not in self._models:
            try:
                with _translated_errors():
                    self._connect()
                    self._models[name] = self._find_or_create(name)
            except UnknownModelError:
                raise
            except RejectedError as error:  # unrelated to the events, which stay in the spool
                raise FatalError(
                    "schema", f"Fiddler rejected the project or model: {error}"
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
            raise FatalError("incompatible", str(error)) from error
        except fdl.ApiError as error:
            if error.code in (UNAUTHORIZED, FORBIDDEN, *_NOT_ABOUT_EVENTS):
                raise
            # Of the two requests of init, only version-compatibility answers with these 4xx.
            raise FatalError("incompatible", str(error)) from error
        assert fdl.conn is not None  # noqa: S101 for the type checker
        found = fdl.conn.server_info.organization
        if settings.fiddler_org_id not in (found.name, str(found.id)):
            raise FatalError(
                "organisation",
                f"the token belongs to organisation {found.name} ({found.id}),"
                f" but FIDDLER_ORG_ID is {settings.fiddler_org_id}",
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
                message = f"Fiddler has no model {name.name} {name.version}"
                raise UnknownModelError(NOT_FOUND, message) from None
            model = self._create(header, project.id)
        if header is not None:
            _check(model, header)
        return model

    def _create(self, header: Header, project: UUID) -> "fdl.Model":
        model = new_model(header, project)
        try:
            model.create()
        except fdl.Conflict:  # another publisher created it first
            return fdl.Model.from_name(header.model, project, version=header.version)
        log.info("created %s %s at Fiddler", header.model, header.version)
        return model


def new_model(header: Header, project: UUID) -> "fdl.Model":
    """Return the model that a segment's header describes; it does not exist at Fiddler yet."""
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
        raise FatalError("schema", f"column names are not unique: {', '.join(sorted(names))}")
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
    """Raise FatalError if an existing model's schema does not fit the events."""
    expected = new_model(header, UUID(int=0))
    wanted = {column.name for column in expected.schema.columns}
    found = {column.name for column in model.schema.columns}
    if missing := wanted - found:
        raise FatalError(
            "schema",
            f"Fiddler's {header.model} {header.version} lacks {', '.join(sorted(missing))}",
        )
    if model.event_id_col != EVENT_ID:
        raise FatalError(
            "schema",
            f"Fiddler's {header.model} {header.version} uses {model.event_id_col} as the event id,"
            f" not {EVENT_ID}: labels would match no event",
        )


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Translate every exception of the client into one of publisher.errors."""
    try:
        yield
    except (TransientError, RejectedError, FatalError):
        raise
    except fdl.ApiError as error:  # a response of Fiddler itself
        raise _fiddler_error(error.code, _message(error)) from error
    except requests.HTTPError as error:  # a response of something else, usually a proxy
        raise _proxy_error(error) from error
    except (requests.RequestException, BaseError) as error:
        raise _failed_try(error) from error
    except (pydantic.ValidationError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise TransientError("protocol", f"not Fiddler's protocol: {_first_line(error)}") from error


def _fiddler_error(status: int, message: str) -> Exception:
    if status in (UNAUTHORIZED, FORBIDDEN):
        return FatalError("denied", f"Fiddler denied access ({status}): {message}")
    if status == TOO_MANY:
        return TransientError("throttled", message)
    if status >= _SERVER_ERROR and status not in _NOT_ABOUT_EVENTS:
        return TransientError("server_error", message)
    if status in _NOT_ABOUT_EVENTS:
        return TransientError("protocol", message)
    return RejectedError(status, message)


def _proxy_error(error: requests.HTTPError) -> Exception:
    """Translate a response without Fiddler's error envelope, which says nothing about the events.

    The exception is 413: a proxy that finds a body too large will do so every time.
    """
    status, text = _status(error), _body_text(error)
    if status in (UNAUTHORIZED, FORBIDDEN):
        return FatalError("denied", f"access denied ({status}): {text}")
    if status == TOO_LARGE:
        return RejectedError(status, text)
    return TransientError("protocol", f"{status}: {text}")


def _failed_try(error: Exception) -> TransientError:
    """Translate the failure of the client's only try by the exception that caused it."""
    reason = error.__cause__ or error
    if isinstance(reason, requests.HTTPError):
        status = _status(reason)
        cause: Cause = "throttled" if status == TOO_MANY else "server_error"
        return TransientError(cause, f"{status}: {_body_text(reason)}", _retry_after(reason))
    if isinstance(reason, requests.Timeout):
        return TransientError("timeout", _first_line(reason))
    if isinstance(reason, requests.RequestException):
        return TransientError("connection", _first_line(reason))
    return TransientError("protocol", _first_line(error))


def _status(error: requests.HTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def _retry_after(error: requests.HTTPError) -> float:
    """Return the seconds that Retry-After asks for, 0 if it is missing or a date."""
    headers = {} if error.response is None else error.response.headers
    seconds = headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() else 0.0


def _message(error: "fdl.ApiError") -> str:
    details = "; ".join(f"{each.reason}: {each.message}" for each in error.errors or ())
    return f"{error.message} ({details})"[:_LONGEST_MESSAGE] if details else error.message


def _body_text(error: requests.HTTPError) -> str:
    return "" if error.response is None else " ".join(error.response.text.split())[:200]


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]
