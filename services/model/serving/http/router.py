"""The HTTP API."""

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel  # noqa: TC002 beside classes that are needed when it runs

from serving.http import openapi
from serving.http.feedback import add_feedback, label_model
from serving.http.information import add_information
from serving.http.mlflow import InvocationsRequest, add_mlflow
from serving.http.predict import add_predict
from serving.http.tensors import InferRequest
from serving.http.v2 import add_v2
from serving.service import Service


def add_api(app: FastAPI, service: Service) -> None:
    """Add every route, and the documentation of their bodies."""
    router = APIRouter()
    add_predict(router, service)
    add_feedback(router, service)
    add_information(router, service.manifest)
    add_v2(router, service)
    add_mlflow(router, service)
    app.include_router(router)
    bodies: list[type[BaseModel]] = [
        service.inputs.instance,
        service.inputs.batch,
        label_model(service.manifest),
        InferRequest,
        InvocationsRequest,
    ]
    openapi.add_schemas(app, bodies)
