"""components/gateway: the same part of the API as the Ingress, by the Gateway API."""

import pytest

from tests.support.k8s import (
    WITH_GATEWAY,
    Json,
    Objects,
    build,
    named,
    of_kind,
    schema_problems,
    title,
)

# The Gateway API's own kinds, and the operator's.
CUSTOM = ("gateway.networking.k8s.io", "monitoring.coreos.com")
_TYPES = {"Prefix": "PathPrefix", "Exact": "Exact"}


def without(objects: Objects, kind: str) -> list[str]:
    """Return the titles of the objects of other kinds."""
    return sorted(title(each) for each in objects if each["kind"] != kind)


def test_the_route_takes_the_place_of_the_ingress() -> None:
    """Nothing else changes."""
    edited, production = build(WITH_GATEWAY), build("overlays/production")

    assert of_kind(edited, "Ingress") == []
    assert without(edited, "HTTPRoute") == without(production, "Ingress")


def test_the_route_exposes_what_the_ingress_exposes() -> None:
    """Host, paths and port are the same."""
    (rule,) = named(build("overlays/production"), "Ingress", "model")["spec"]["rules"]
    route = named(build(WITH_GATEWAY), "HTTPRoute", "model")["spec"]
    (routed,) = route["rules"]
    ingress = {
        (_TYPES[path["pathType"]], path["path"]): path["backend"]["service"]["port"]["name"]
        for path in rule["http"]["paths"]
    }

    assert route["hostnames"] == [rule["host"]]
    assert {(each["path"]["type"], each["path"]["value"]) for each in routed["matches"]} == {
        *ingress
    }
    assert [port_name(each) for each in routed["backendRefs"]] == ["http"]
    assert {*ingress.values()} == {"http"}


def port_name(backend: Json) -> str:
    """Return the name of the Service's port that a route sends to."""
    ports = named(build(WITH_GATEWAY), "Service", backend["name"])["spec"]["ports"]
    return next(str(port["name"]) for port in ports if port["port"] == backend["port"])


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_native_objects_are_valid(version: str) -> None:
    """The patch that removes the Ingress leaves valid objects, under old and new Kubernetes."""
    native = [
        each for each in build(WITH_GATEWAY) if each["apiVersion"].split("/")[0] not in CUSTOM
    ]

    assert [problem for each in native for problem in schema_problems(each, version)] == []
