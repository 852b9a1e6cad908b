"""The HTTP API."""

from fastapi import APIRouter

from serving.routes.feedback import add_feedback
from serving.routes.information import add_information
from serving.routes.predict import add_predict
from serving.service import Service


def create_router(service: Service) -> APIRouter:
    """Return every route."""
    router = APIRouter()
    add_information(router, service.manifest)
    add_predict(router, service)
    add_feedback(router, service)
    return router
