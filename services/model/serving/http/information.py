"""Which model runs, and whether it is ready."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bundle.manifest import Feature, Manifest, Quantity, Validation, Value
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


class QuantityInformation(BaseModel):
    """A feature or the target."""

    name: str
    description: str
    unit: str = Field(description="Empty where there is none")
    minimum: float | None = Field(default=None, description="Smallest value; absent: unbounded")
    maximum: float | None = Field(default=None, description="Largest value; absent: unbounded")


class TargetInformation(QuantityInformation):
    """What the model predicts."""

    classes: list[Value] | None = Field(
        default=None, description="The classes of a classification, in the model's order"
    )


class FeatureInformation(QuantityInformation):
    """One input of the model; a value outside of its range is rejected."""

    type: str
    nullable: bool = Field(description="Whether null is accepted as a missing value")
    categories: list[Value] | None = Field(
        default=None, description="The values of a category that training saw"
    )
    unseen: str | None = Field(
        default=None, description="What happens to other values of a category: pass or reject"
    )


class PromisedError(BaseModel):
    """What validation promised, on rows held out from training; what the task lacks is absent."""

    mae: float | None = Field(
        default=None, description="Mean absolute error, in units of the target"
    )
    rmse: float | None = Field(
        default=None, description="Root of the mean squared error, in units of the target"
    )
    accuracy: float | None = Field(default=None, description="Share of right predictions")
    macro_f1: float | None = Field(default=None, description="Mean over classes of F1")
    balanced_accuracy: float | None = Field(default=None, description="Mean over classes of recall")
    log_loss: float | None = Field(
        default=None, description="Mean of -ln of the true class's probability"
    )
    brier: float | None = Field(
        default=None,
        description="Mean of Σ (probability - outcome)² over classes, halved for two",
    )
    auc: float | None = Field(default=None, description="Area under the ROC curve, of two classes")
    calibration_error: float | None = Field(default=None, description="Expected calibration error")
    rows: int = Field(description="Rows that it was measured on")
    in_sample: bool | None = Field(
        default=None, description="True if these are the training rows: the promise is too good"
    )


class ModelInformation(BaseModel):
    """The model that runs."""

    name: str
    version: str
    task: str
    algorithm: str
    headline: str = Field(description="The statistic that the accuracy alerts are about")
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
        headline=manifest.headline,
        target=TargetInformation(**_quantity(manifest.target), classes=[*manifest.classes] or None),
        validation=_promise(manifest.validation),
        features=[*map(_feature, manifest.features)],
        links=_LINKS,
    )


def _quantity(quantity: Quantity) -> dict[str, Any]:
    return quantity.model_dump(include=set(Quantity.model_fields))


def _feature(feature: Feature) -> FeatureInformation:
    is_category = feature.type == "category"
    return FeatureInformation(
        **_quantity(feature),
        type=feature.type,
        nullable=feature.nullable,
        categories=[*feature.categories] if is_category else None,
        unseen=feature.unseen if is_category else None,
    )


def _promise(validation: Validation) -> PromisedError:
    known = validation.statistics()
    figures = {name: known[name] for name in PromisedError.model_fields if name in known}
    return PromisedError(
        **figures, rows=validation.rows, in_sample=True if validation.in_sample else None
    )
