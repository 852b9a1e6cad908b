"""A stand-in for Fiddler: the part of its REST API that the publisher uses, with fault injection.

Written from Fiddler's documented API: envelopes `{"data": …}` and `{"error": …}`, bearer tokens,
projects, models, events (POST creates, PATCH updates), file uploads and jobs. Events and uploaded
rows must have the types of the model's columns. Tests inspect its store.
`python -m tools.fiddler_stand_in PORT` runs it alone.
"""

import csv
import io
import json
import socket
import ssl
import sys
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]

TOKEN = "a-token-for-tests"  # noqa: S105 not a real one
ORGANISATION = "tests"
ORGANISATION_ID = str(uuid.UUID(int=1))
USER_ID = str(uuid.UUID(int=2))
NOW = "2026-11-22T16:50:57.705784+00:00"
# Seconds after which a stalled request ends even if no test releases it.
_LONGEST_STALL = 60.0
_BINARY = 2

FaultKind = Literal["answer", "html", "stall", "stall_after", "cut", "cut_after", "partial"]


@dataclass(frozen=True)
class Fault:
    """A fault injected into a request: before it takes effect, or (`…_after`) afterwards.

    With `partial`, only every other event of a request is stored.
    """

    kind: FaultKind
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    heading: str = "Bad gateway"
    """The text of the answer."""


FaultPolicy = Callable[[str, str], Fault | None]
"""Returns the fault of a request, given its method and path."""


def no_fault(_: str, __: str) -> None:
    """Inject no fault."""


def first_requests(count: int, fault: Fault, path: str = "/v3/events") -> FaultPolicy:
    """Inject a fault into the first `count` requests to a path."""
    left = [count]

    def choose(_: str, requested: str) -> Fault | None:
        if requested != path or not left[0]:
            return None
        left[0] -= 1
        return fault

    return choose


class RejectedRequest(Exception):  # noqa: N818
    """A response in Fiddler's error envelope."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Store:
    """Everything that the stand-in has received."""

    version: str = "25.20.0"
    organisation: str = ORGANISATION
    compatible: bool = True
    projects: dict[str, Json] = field(default_factory=dict)
    models: dict[str, Json] = field(default_factory=dict)
    events: defaultdict[str, dict[str, Json]] = field(default_factory=lambda: defaultdict(dict))
    files: dict[str, bytes] = field(default_factory=dict)
    datasets: defaultdict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    counts: Counter[str] = field(default_factory=Counter)
    """accepted, duplicates, updates, orphans (updates of unknown events), datasets, requests."""

    def all_events(self) -> dict[str, Json]:
        """Return the events of all models by id."""
        return {key: event for events in self.events.values() for key, event in events.items()}

    def get(self, kind: str, key: str, filters: Json) -> Json:
        """Answer GET /v3/<kind>[/<key>]; `filters` maps fields to the values they must have."""
        match kind, key:
            case "server-info", _:
                return self._server_info()
            case "version-compatibility", _ if self.compatible:
                return {}
            case "version-compatibility", _:
                raise RejectedRequest(400, "You are using an old fiddler-client. Please upgrade")
            case "environments", _:
                return _page(self._datasets(**filters))
            case "jobs", _:
                state = {"status": "SUCCESS", "progress": 100.0, "info": {}}
                return {"id": key, "name": "Publish", **state}
        return self._get_resource(
            {"projects": self.projects, "models": self.models}, kind, key, filters
        )

    def create(self, kind: str, body: Json) -> Json:
        """Answer POST /v3/projects and /v3/models."""
        known, build = {
            "projects": (self.projects, self._project),
            "models": (self.models, self._model),
        }[kind]
        identity: Json = {
            name: body[name] for name in ("name", "version", "project_id") if name in body
        }
        if any(_matches(each, identity) for each in known.values()):
            raise RejectedRequest(409, f"{kind}: {body['name']} already exists")
        resource = build(body)
        known[resource["id"]] = resource
        return resource

    def _get_resource(
        self, known: dict[str, dict[str, Json]], kind: str, key: str, filters: Json
    ) -> Json:
        if kind not in known or (key and key not in known[kind]):
            raise RejectedRequest(404, f"there is no {kind} {key}")
        if key:
            return known[kind][key]
        return _page([each for each in known[kind].values() if _matches(each, filters)])

    def _datasets(self, name: str, model_id: str) -> list[Json]:
        model, found = self.models[model_id], name in self.datasets[model_id]
        known = {field: model[field] for field in ("project", "organization")}
        return [{"id": USER_ID, "name": name, "model": model, **known}] if found else []

    def _server_info(self) -> Json:
        organisation = {"id": ORGANISATION_ID, "name": self.organisation}
        return {
            "feature_flags": {},
            "server_version": self.version,
            "organization": organisation,
        }

    def _project(self, body: Json) -> Json:
        return self._resource(name=body["name"])

    def _model(self, body: Json) -> Json:
        _check_task(body)
        user = {"id": USER_ID, "full_name": "tests", "email": "tests@example.org"}
        return self._resource(
            **body,
            project={"id": body["project_id"], "name": self.projects[body["project_id"]]["name"]},
            artifact_status="no_model",
            artifact_files=[],
            created_by=user,
            updated_by=user,
            is_binary_ranking_model=False,
        )

    def publish(self, body: Json, *, update: bool) -> Json:
        """Answer POST and PATCH /v3/events."""
        model = self.models.get(body["model_id"])
        if model is None:
            raise RejectedRequest(404, "Model not found")
        if body["source"]["type"] == "FILE":
            rows = self.files[body["source"]["file_id"]]
            _check_rows(rows.decode(), model)
            self.counts["datasets"] += 1
            self.datasets[model["id"]][body["env_name"]] = rows
            return {"source_type": "FILE", "job": {"id": str(uuid.UUID(int=3)), "name": "Publish"}}
        events = body["source"]["events"]
        for event in events:
            _check(event, model, update=update)
        id_column = model["event_id_col"]
        for event in events:
            self._store(model["id"], event[id_column], event, update=update)
        return {"source_type": "EVENTS", "event_ids": [each[id_column] for each in events]}

    def _store(self, model: str, key: str, event: Json, *, update: bool) -> None:
        stored = self.events[model]
        if not update:
            self.counts["duplicates" if key in stored else "accepted"] += 1
            # Sending an event again must not undo an update.
            stored[key] = {**event, **stored.get(key, {})}
        elif key in stored:
            self.counts["updates"] += 1
            stored[key] |= event
        else:
            self.counts["orphans"] += 1

    def _resource(self, **fields: Any) -> Json:  # noqa: ANN401 any JSON
        organisation = {"id": ORGANISATION_ID, "name": self.organisation}
        key = {"id": str(uuid.uuid4()), "created_at": NOW, "updated_at": NOW}
        return {**fields, **key, "organization": organisation}


def _matches(resource: Json, filters: Json) -> bool:
    return all(resource.get(field) == value for field, value in filters.items())


def _page(items: list[Json]) -> Json:
    count = len(items)
    numbers = {"page_size": 50, "item_count": count, "page_count": 1, "page_index": 1, "offset": 0}
    return {**numbers, "total": count, "items": items}


def _check(event: Json, model: Json, *, update: bool) -> None:
    """Reject an event that does not fit the model's schema."""
    columns = {each["name"]: each["data_type"] for each in model["schema"]["columns"]}
    wanted = {model["event_id_col"]} if update else set(columns) - set(model["spec"]["targets"])
    if missing := wanted - event.keys():
        raise RejectedRequest(422, f"columns are missing: {sorted(missing)}")
    for name, value in event.items():
        if name not in columns or not _fits(value, columns[name]):
            raise RejectedRequest(422, f"{name}: {value!r} does not fit the schema")


def _fits(value: object, type_: str) -> bool:
    """Return whether a value of an event fits a column; null fits each."""
    match value:
        case None:
            return True
        case bool():
            return type_ == "bool"
        case int():
            return type_ in ("int", "float")
        case float():
            return type_ == "float"
        case str():
            return type_ in ("str", "category") or (type_ == "timestamp" and _is_time(value))
    return False


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _check_task(model: Json) -> None:
    """Reject a classification whose outputs are not those of its classes."""
    if not model["task"].endswith("_classification"):
        return
    classes = (model.get("task_params") or {}).get("target_class_order") or []
    outputs = len(model["spec"]["outputs"])
    is_binary = model["task"] == "binary_classification"
    if is_binary != (len(classes) == _BINARY) or outputs > (1 if is_binary else len(classes)):
        message = f"{model['task']} with {len(classes)} classes and {outputs} outputs"
        raise RejectedRequest(422, message)


def _check_rows(text: str, model: Json) -> None:
    """Reject a CSV file whose columns or values do not fit the model's schema."""
    types = {each["name"]: each["data_type"] for each in model["schema"]["columns"]}
    spec = model["spec"]
    rows = csv.DictReader(io.StringIO(text, newline=""))
    wanted = {*spec["inputs"], *spec["outputs"], *spec["decisions"], *spec["targets"]}
    if set(rows.fieldnames or ()) != wanted:
        raise RejectedRequest(422, f"the columns are not {sorted(wanted)}")
    for row in rows:
        for name, cell in row.items():
            if cell and not _reads_as(cell, types[name]):
                raise RejectedRequest(422, f"{name}: {cell!r} does not fit the schema")


def _reads_as(cell: str, type_: str) -> bool:
    """Return whether the text of a cell reads as a value of a column."""
    match type_:
        case "bool":
            return cell in ("true", "false")
        case "timestamp":
            return _is_time(cell)
        case "int" | "float":
            try:
                (int if type_ == "int" else float)(cell)
            except ValueError:
                return False
    return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"
    headers: Message

    def log_message(self, *_: Any) -> None:  # noqa: ANN401 as the base class has it
        """Log nothing, to keep the output of tests readable."""

    def do_GET(self) -> None:
        """Answer a request."""
        self._handle()

    do_POST = do_PATCH = do_GET  # noqa: N815

    def _handle(self) -> None:
        path = urlsplit(self.path).path
        fault = self.server.fiddler.fault(self.command, path)
        body = self._read(half=fault is not None and fault.kind == "cut")
        kind = fault.kind if fault else ""
        if fault and kind == "cut":
            self._disconnect()
        elif fault and kind == "stall":
            self._stall()
        elif fault and kind == "answer":
            self._send(fault.status, _error(fault.status, fault.heading), fault.headers)
        elif fault and kind == "html":
            page = f"<html><h1>{fault.heading}</h1></html>".encode()
            self._send(fault.status, page, {}, "text/html")
        else:
            status, answer = self._answer(path, _every_other(body) if kind == "partial" else body)
            if kind == "stall_after":
                self._stall()
            else:
                self._send(status, answer, half=kind == "cut_after")

    def _answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        fiddler = self.server.fiddler
        if self.headers["Authorization"] != f"Bearer {fiddler.token}":
            return 401, _error(401, "Invalid token")
        try:
            with fiddler.lock:
                fiddler.store.counts["requests"] += 1
                data = self._route(path, body)
        except RejectedRequest as error:
            return error.status, _error(error.status, str(error))
        return 200, json.dumps({"data": data, "api_version": "3.0", "kind": "NORMAL"}).encode()

    def _route(self, path: str, body: bytes) -> Json:
        store = self.server.fiddler.store
        kind, _, key = path.removeprefix("/v3/").partition("/")
        match self.command, kind:
            case "POST", "files":
                return self._upload(body)
            case "POST" | "PATCH", "events":
                return store.publish(json.loads(body), update=self.command == "PATCH")
            case "POST", ("projects" | "models"):
                return store.create(kind, json.loads(body))
            case "GET", _:
                return store.get(kind, key, self._filters())
        raise RejectedRequest(404, f"there is no {self.command} {path}")

    def _filters(self) -> Json:
        """Return the fields that a query filters by, and their values."""
        query = parse_qs(urlsplit(self.path).query)
        rules = json.loads(query.get("filter", ['{"rules":[]}'])[0])["rules"]
        return {rule["field"]: rule["value"] for rule in rules}

    def _upload(self, body: bytes) -> Json:
        store, key = self.server.fiddler.store, str(uuid.uuid4())
        boundary = self.headers.get_param("boundary")
        part = body.split(f"--{boundary}".encode())[1]
        store.files[key] = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        user = {"id": USER_ID, "full_name": "tests", "email": "tests@example.org"}
        metadata = {"created_at": NOW, "updated_at": NOW, "created_by": user, "updated_by": user}
        return {"id": key, "filename": "rows", "status": "SUCCESSFUL", "type": "CSV", **metadata}

    def _read(self, *, half: bool) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length // 2 if half else length)

    def _send(
        self,
        status: int,
        content: bytes,
        headers: dict[str, str] | None = None,
        type_: str = "application/json",
        *,
        half: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", type_)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if half else content)
        if half:
            self._disconnect()

    def _stall(self) -> None:
        self.server.fiddler.stalled.set()
        self.server.fiddler.released.wait(_LONGEST_STALL)
        self._disconnect()

    def _disconnect(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _every_other(body: bytes) -> bytes:
    """Return a request for events with every other one left out, starting with the second."""
    request = json.loads(body)
    request["source"]["events"] = request["source"]["events"][::2]
    return json.dumps(request).encode()


def _error(status: int, message: str) -> bytes:
    item = {"reason": "Fault", "message": message, "help": ""}
    error = {"code": status, "message": message, "errors": [item]}
    return json.dumps({"error": error, "api_version": "3.0", "kind": "ERROR"}).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, fiddler: "Fiddler", host: str, port: int) -> None:
        self.fiddler = fiddler
        super().__init__((host, port), _Handler)
        if fiddler.tls:
            self.socket = fiddler.tls.wrap_socket(self.socket, server_side=True)

    def handle_error(self, *_: Any) -> None:  # noqa: ANN401 as the base class has it
        """Ignore the disconnect of a client that was killed."""


class Fiddler:
    """The stand-in, listening on a free port unless given one; `fault` chooses faults."""

    def __init__(
        self, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.tls = tls
        self.store = Store()
        self.token = TOKEN
        self.fault: FaultPolicy = no_fault
        self.lock = threading.Lock()
        self.stalled = threading.Event()
        self.released = threading.Event()
        self._server: _Server | None = None
        self.host = host
        self.port = port
        self.listen()
        self.url = f"{'https' if tls else 'http'}://{self.host}:{self.port}"

    def listen(self) -> None:
        """Accept connections; after `close`, on the same port as before."""
        self._server = _Server(self, self.host, self.port)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    def close(self) -> None:
        """Stop listening, so that connections are refused."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def release(self) -> None:
        """End stalled requests without a response."""
        self.released.set()


def publisher_settings(url: str, spool: Path, port: int) -> dict[str, str]:
    """Return the settings of a publisher that publishes a spool to a stand-in."""
    return {
        "FIDDLER_URL": url,
        "FIDDLER_ORG_ID": ORGANISATION,
        "FIDDLER_AUTH_TOKEN": TOKEN,
        "MODEL_SPOOL_DIR": str(spool),
        "PUBLISHER_METRICS_PORT": str(port),
    }


@contextmanager
def running_fiddler(
    host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[Fiddler]:
    """Run a stand-in while the block runs."""
    fiddler = Fiddler(host=host, tls=tls)
    try:
        yield fiddler
    finally:
        fiddler.release()
        fiddler.close()


def main() -> None:
    """Run until standard input ends, then print the counts of what arrived."""
    fiddler = Fiddler(int(sys.argv[1]))
    print(fiddler.url, flush=True)
    sys.stdin.read()
    print(json.dumps(fiddler.store.counts))


if __name__ == "__main__":
    main()
