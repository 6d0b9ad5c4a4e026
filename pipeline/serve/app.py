"""The application: all routes, behind the guard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from fade import __version__
from fade.errors import FadeError, plain
from pipeline.serve.access import Access
from pipeline.serve.answers import ErrorAnswer
from pipeline.serve.guard import Guard, Refused, as_refusal
from pipeline.serve.image_routes import add_image_routes
from pipeline.serve.judge import Busy, Judge
from pipeline.serve.limits import Limits
from pipeline.serve.page_routes import add_page_routes
from pipeline.serve.predict_routes import add_predict_routes
from pipeline.serve.site import RunSite, Site
from pipeline.serve.telemetry import Telemetry

THREADS = 8
"""Requests at work at once, beside decisions: each may hold an image."""


def create_app(site: Site, access: Access, limits: Limits | None = None) -> Guard:
    """The application that serves a run or a bundle (ASGI)."""
    limits = limits or Limits()
    judge, telemetry = Judge(limits), Telemetry()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        from anyio import to_thread

        to_thread.current_default_thread_limiter().total_tokens = THREADS
        judge.start(site.load, site.failed)
        yield
        judge.close()

    app = FastAPI(
        title="FADE Pipeline", version=__version__, lifespan=life,
        docs_url=None, redoc_url=None, redirect_slashes=False,
        description="A finished run or a bundle: its images, their maps, and decisions on new images.",
        responses={"default": {"model": ErrorAnswer, "description": "An error, in a line."}},
    )  # fmt: skip
    for kind in (FadeError, Busy, Refused, OSError, Exception):
        app.add_exception_handler(kind, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    # not by include_router, which prepares them once more, with the first request
    add_page_routes(app.router, site, access, judge, telemetry)
    add_predict_routes(app.router, site, judge, limits, telemetry)
    if isinstance(site, RunSite):
        add_image_routes(app.router, site, judge)
    return Guard(app, access, limits, telemetry)


def _refused(request: Request, error: Exception) -> JSONResponse:
    found = as_refusal(error)
    return JSONResponse({"error": str(found)}, found.status, found.headers)


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    said = {404: "there is nothing of this name here: /docs lists what there is"}
    text = said.get(error.status_code, str(error.detail))
    return JSONResponse({"error": plain(text)}, error.status_code, dict(error.headers or {}))


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    parts: list[str] = []
    for one in error.errors()[:5]:
        found: dict[str, Any] = dict(one)
        place = ".".join(str(part) for part in found["loc"][1:]) or "the request"
        if found["type"] == "json_invalid":
            place, found["msg"] = "the request", f"is no JSON ({found['ctx']['error']})"
        parts.append(f"{place}: {found['msg'][:1].lower()}{found['msg'][1:]}")
    return JSONResponse({"error": plain("; ".join(parts))}, 422)
