"""Who is there, and is it well."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bundle.manifest import Manifest


class Information(BaseModel):
    """Answer of `GET /`."""

    name: str = Field(description="The model")
    version: str = Field(description="Its version")
    links: dict[str, str] = Field(description="Where to go from here")


class Status(BaseModel):
    """Answer of the health checks."""

    status: str


def add_information(router: APIRouter, manifest: Manifest) -> None:
    """Add `/` and the health checks."""

    @router.get("/", summary="Which model this is")
    async def root() -> Information:
        pages = ("docs", "predict", "feedback", "healthz", "readyz")
        links = {page: f"/{page}" for page in pages}
        return Information(name=manifest.name, version=manifest.version, links=links)

    @router.get("/healthz", summary="The process is alive")
    @router.get("/healthcheck", summary="The older name of /healthz", include_in_schema=False)
    async def healthz() -> Status:
        return Status(status="ok")

    @router.get("/readyz", summary="The model is loaded")
    async def readyz() -> Status:
        # A worker answers nothing before its model is loaded and has predicted once.
        return Status(status="ready")
