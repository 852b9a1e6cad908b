"""GET routes that answer HEAD as well; FastAPI's answer GET only."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def get(router: APIRouter, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:  # noqa: ANN401
    """Return a decorator that adds a GET route, and an undocumented HEAD route beside it."""

    def add(endpoint: Endpoint) -> Endpoint:
        router.get(path, **options)(endpoint)
        router.head(path, **options | {"include_in_schema": False})(endpoint)
        return endpoint

    return add


def add_head(routes: Iterable[BaseRoute]) -> None:
    """Let the undocumented GET routes answer HEAD: the pages of the documentation."""
    for route in routes:
        if isinstance(route, APIRoute) and not route.include_in_schema and route.methods == {"GET"}:
            route.methods = {"GET", "HEAD"}
