"""The HTTP API."""

from fastapi import APIRouter

from serving.http.feedback import add_feedback
from serving.http.information import add_information
from serving.http.predict import add_predict
from serving.service import Service


def create_router(service: Service) -> APIRouter:
    """Return every route."""
    router = APIRouter()
    add_information(router, service.manifest)
    add_predict(router, service)
    add_feedback(router, service)
    return router
