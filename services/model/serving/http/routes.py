"""GET routes that answer HEAD as well; FastAPI's answer GET only."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def get(router: APIRouter, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:  # noqa: ANN401
    """Return a decorator that adds a GET route, and an undocumented HEAD route beside it."""

    def add(endpoint: Endpoint) -> Endpoint:
        router.get(path, **options)(endpoint)
        router.head(path, **options | {"include_in_schema": False})(endpoint)
        return endpoint

    return add
