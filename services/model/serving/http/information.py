"""Which model runs, and whether it is ready."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bundle.manifest import Manifest
from serving.http import openapi
from serving.http.routes import get

_LINKS = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "predict": "/predict",
    "predict_batch": "/predict/batch",
    "feedback": "/feedback",
    "healthz": "/healthz",
    "readyz": "/readyz",
    "open_inference_protocol": "/v2",
    "mlflow": "/invocations",
}


class TargetInformation(BaseModel):
    """What the model predicts."""

    name: str
    description: str
    unit: str = Field(description="Empty where there is none")
    minimum: float | None = Field(default=None, description="Smallest value; absent: unbounded")
    maximum: float | None = Field(default=None, description="Largest value; absent: unbounded")


class FeatureInformation(TargetInformation):
    """One input of the model; a value outside of its range is rejected."""

    type: str
    nullable: bool = Field(description="Whether null is accepted as a missing value")


class PromisedError(BaseModel):
    """The error that validation promised, on rows held out from training."""

    mae: float = Field(description="Mean absolute error, in units of the target")
    rmse: float = Field(description="Root of the mean squared error, in units of the target")
    rows: int = Field(description="Rows that it was measured on")


class ModelInformation(BaseModel):
    """The model that runs."""

    name: str
    version: str
    task: str
    algorithm: str
    target: TargetInformation
    validation: PromisedError
    features: list[FeatureInformation] = Field(description="In the order of a matrix's columns")
    links: dict[str, str]


class HealthResponse(BaseModel):
    """The answer of a health check."""

    status: str


def add_information(router: APIRouter, manifest: Manifest) -> None:
    """Add `/` and the health checks."""
    information = describe(manifest)

    @get(
        router,
        "/",
        operation_id="get_model",
        tags=["model"],
        summary="Show the model: inputs, output, promised error",
        response_model_exclude_none=True,
        responses={
            200: openapi.response(
                "The model", {"A model": information.model_dump(exclude_none=True)}
            )
        },
    )
    async def root() -> ModelInformation:
        return information

    @get(
        router,
        "/healthz",
        operation_id="healthz",
        tags=["model"],
        summary="Check that the process is alive",
    )
    @get(router, "/healthcheck", include_in_schema=False)
    async def healthz() -> HealthResponse:
        return HealthResponse(status="ok")

    @get(
        router,
        "/readyz",
        operation_id="readyz",
        tags=["model"],
        summary="Check that the model is loaded",
    )
    async def readyz() -> HealthResponse:
        # A worker answers nothing before its model is loaded and has predicted once.
        return HealthResponse(status="ready")


def describe(manifest: Manifest) -> ModelInformation:
    """Return what the bundle says about its model."""
    return ModelInformation(
        name=manifest.name,
        version=manifest.version,
        task=manifest.task,
        algorithm=manifest.algorithm,
        target=TargetInformation.model_validate(manifest.target, from_attributes=True),
        validation=PromisedError.model_validate(manifest.validation, from_attributes=True),
        features=[
            FeatureInformation.model_validate(each, from_attributes=True)
            for each in manifest.features
        ],
        links=_LINKS,
    )
