"""Wraps Fiddler's own client, which only fiddler_model.py imports too, and its exceptions."""

import logging
import os
import re
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
from requests.utils import get_environ_proxies

from publisher.baseline import Baselines
from publisher.destination import Batch, Destination
from publisher.errors import (
    Cause,
    RejectedError,
    StoppedError,
    TransientError,
    UnknownModelError,
)
from publisher.events import ModelName, model_name
from publisher.fiddler_events import fiddler_events
from publisher.fiddler_model import check_model, new_model
from publisher.header import Header
from publisher.settings import FiddlerSettings

UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, TOO_LARGE, TOO_MANY = 401, 403, 404, 409, 413, 429
MULTI_STATUS, UNPROCESSABLE = 207, 422
# Statuses of a server or proxy that are unrelated to the events in the request.
_NOT_ABOUT_EVENTS = (405, 407, 408, 421, 423, 425, 426, TOO_MANY, 501)
_SERVER_ERROR = 500
_LONGEST_MESSAGE = 2_000
_HEADING = re.compile(r"<(?:title|h1)[^>]*>([^<]*)<", re.IGNORECASE)

log = logging.getLogger(__name__)


class Fiddler(Destination):
    """One organisation of one Fiddler instance; connects on first use."""

    largest_batch = 1_000
    """Fiddler's limit per request."""

    def __init__(self, settings: FiddlerSettings, baselines: Baselines) -> None:
        self._settings = settings
        self._baselines = baselines
        self._connected = False
        self._headers: dict[ModelName, Header] = {}
        self._models: dict[ModelName, fdl.Model] = {}

    def register(self, header: Header) -> None:
        """Store the description of a model, in case it has to be created."""
        self._headers[model_name(header)] = header

    def work(self) -> None:
        """Take the next step of the baselines."""
        self._baselines.advance(self)

    def reset(self) -> None:
        """Forget what Fiddler has answered, so that the next request checks everything again."""
        self._connected = False
        self._models.clear()

    def publish(self, batch: Batch) -> None:
        """Send a batch in one request.

        Raises TransientError, RejectedError or StoppedError.
        """
        model = self._model(batch.model)
        try:
            events = fiddler_events(batch)
        except ValueError as error:
            raise RejectedError(UNPROCESSABLE, str(error)) from error
        try:
            with _translated_errors(about_rows=True):
                ids = model.publish_stream(events, update=batch.kind == "label")
                accepted = frozenset(map(str, ids))
        except RejectedError as error:
            if error.status != NOT_FOUND:
                raise
            # The model was deleted; the next try creates it.
            self._models.clear()
            raise TransientError("not_found", "Fiddler does not know the model") from error
        if len(ids) < len(events):
            message = f"Fiddler returned {len(ids)} ids for {len(events)} events"
            raise RejectedError(MULTI_STATUS, message, accepted)

    def has_dataset(self, name: ModelName, dataset: str) -> bool:
        """Return whether Fiddler has a dataset of a model.

        Raises TransientError, RejectedError or StoppedError.
        """
        model = self._model(name)
        assert model.id is not None  # noqa: S101 for the type checker
        with _translated_errors():
            try:
                fdl.Dataset.from_name(dataset, model.id)
            except fdl.NotFound:
                return False
            return True

    def upload(self, name: ModelName, rows: Path, dataset: str) -> str:
        """Upload a CSV file of reference rows and return the job's id.

        Raises TransientError, RejectedError or StoppedError.
        """
        model = self._model(name)
        with _translated_errors(about_rows=True):
            job = model.publish_batch(
                rows, environment=fdl.EnvType.PRE_PRODUCTION, dataset_name=dataset
            )
            return str(job.id)

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
                if error.status == CONFLICT:
                    raise TransientError("conflict", str(error)) from error
                raise StoppedError(
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
                # The client ignores the environment's proxies and certificate authorities.
                proxies=get_environ_proxies(settings.fiddler_url),
                verify=settings.verify,
                timeout=settings.fiddler_timeout,
                auto_attach_log_handler=False,
            )
        except fdl.IncompatibleClient as error:
            raise StoppedError("incompatible", str(error)) from error
        except fdl.ApiError as error:
            if error.code in (UNAUTHORIZED, FORBIDDEN, *_NOT_ABOUT_EVENTS):
                raise
            # Of the two requests of init, only version-compatibility answers with these 4xx.
            raise StoppedError("incompatible", str(error)) from error
        assert fdl.conn is not None  # noqa: S101 for the type checker
        found = fdl.conn.server_info.organization
        if settings.fiddler_org_id not in (found.name, str(found.id)):
            raise StoppedError(
                "organisation",
                f"the token belongs to organisation {found.name} ({found.id}),"
                f" but FIDDLER_ORG_ID is {settings.fiddler_org_id}",
            )
        self._connected = True

    def _find_or_create(self, name: ModelName) -> "fdl.Model":
        project = _project(self._settings.fiddler_project or name.name)
        header = self._headers.get(name)
        created = False
        try:
            model = fdl.Model.from_name(name.name, project, version=name.version)
        except fdl.NotFound:
            if header is None:
                message = f"Fiddler has no model {name.name} {name.version}"
                raise UnknownModelError(NOT_FOUND, message) from None
            model, created = _create(header, project)
        if header is not None:
            check_model(model, header)
            self._baselines.register(header, created)
        return model


def _project(name: str) -> UUID:
    """Return the id of a project, which another replica may create at the same time."""
    try:
        project = fdl.Project.from_name(name)
    except fdl.NotFound:
        try:
            project = fdl.Project(name=name).create()
        except fdl.Conflict:
            project = fdl.Project.from_name(name)
    found: UUID | None = project.id
    assert found is not None  # noqa: S101 for the type checker
    return found


def _create(header: Header, project: UUID) -> tuple["fdl.Model", bool]:
    """Return a new model, or the one that another replica created first, and which it is."""
    model = new_model(header, project)
    try:
        model.create()
    except fdl.Conflict:
        return fdl.Model.from_name(header.model, project, version=header.version), False
    log.info("created %s %s at Fiddler", header.model, header.version)
    return model, True


@contextmanager
def _translated_errors(*, about_rows: bool = False) -> Iterator[None]:
    """Translate every exception of the client into one of publisher.errors.

    Messages of transient errors are logged, so those about rows leave out what the server says.
    """
    try:
        yield
    except (TransientError, RejectedError, StoppedError):
        raise
    except fdl.ApiError as error:  # a response of Fiddler itself
        raise _fiddler_error(error.code, _message(error), about_rows=about_rows) from error
    except requests.HTTPError as error:  # a response of something else, usually a proxy
        raise _proxy_error(error) from error
    except (requests.RequestException, BaseError) as error:
        raise _failed_try(error, about_rows=about_rows) from error
    except (pydantic.ValidationError, LookupError, TypeError, ValueError, AttributeError) as error:
        message = f"not Fiddler's protocol: {type(error).__name__}"
        raise TransientError("protocol", message) from error


def _fiddler_error(status: int, message: str, *, about_rows: bool) -> Exception:
    if status in (UNAUTHORIZED, FORBIDDEN):
        return StoppedError("denied", f"Fiddler denied access ({status}): {message}")
    logged = str(status) if about_rows else f"{status}: {message}"
    if status == TOO_MANY:
        return TransientError("throttled", logged)
    if status in _NOT_ABOUT_EVENTS:
        return TransientError("protocol", logged)
    if status >= _SERVER_ERROR:
        return TransientError("server_error", logged)
    return RejectedError(status, message)


def _proxy_error(error: requests.HTTPError) -> Exception:
    """Translate a response without Fiddler's error envelope, which says nothing about the events.

    The exception is 413: a proxy that finds a body too large will do so every time.
    """
    status, text = _status(error), _title(error)
    if status in (UNAUTHORIZED, FORBIDDEN):
        return StoppedError("denied", f"access denied ({status}), not by Fiddler: {text}")
    if status == TOO_LARGE:
        return RejectedError(status, text)
    return TransientError("protocol", f"{status}: {text}")


def _failed_try(error: Exception, *, about_rows: bool) -> TransientError:
    """Translate the failure of the client's only try by the exception that caused it."""
    reason = error.__cause__ or error
    if isinstance(reason, requests.HTTPError):
        status = _status(reason)
        cause: Cause = "throttled" if status == TOO_MANY else "server_error"
        message = str(status) if about_rows else f"{status}: {_title(reason)}"
        return TransientError(cause, message, _retry_after(reason))
    if isinstance(reason, requests.Timeout):
        return TransientError("timeout", _first_line(reason))
    if isinstance(reason, requests.RequestException):
        return TransientError("connection", _first_line(reason))
    return TransientError("protocol", type(error).__name__)


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


def _title(error: requests.HTTPError) -> str:
    """Return the title or heading of an HTML page: enough to recognise a proxy."""
    text = "" if error.response is None else error.response.text
    found = _HEADING.search(text)
    return " ".join(found[1].split())[:200] if found else ""


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]
