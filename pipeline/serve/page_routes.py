"""Routes of the server itself: the page and its files, the login, health, counters."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from fade.errors import FadeError
from pipeline.serve.access import COOKIE, Access
from pipeline.serve.answers import HealthAnswer
from pipeline.serve.guard import Refused
from pipeline.serve.judge import Judge
from pipeline.serve.site import RunSite, Site
from pipeline.serve.telemetry import Telemetry

KINDS = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
SESSION_SECONDS = 12 * 3600


def read_pages() -> dict[str, tuple[bytes, str]]:
    """The page's files by name: content and kind. They are read once: no request names a file."""
    folder = files("pipeline.serve") / "page"
    return {
        file.name: (file.read_bytes(), KINDS[file.name.rpartition(".")[2]])
        for file in folder.iterdir()
        if file.name.rpartition(".")[2] in KINDS
    }


def add_page_routes(
    router: APIRouter, site: Site, access: Access, judge: Judge, telemetry: Telemetry
) -> None:
    """Add the routes to those of the application."""
    pages = read_pages()

    def page(name: str) -> Response:
        if name not in pages:
            raise Refused(404, "there is nothing of this name here: /docs lists what there is")
        content, kind = pages[name]
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    @router.get("/", include_in_schema=False)
    def index() -> Response:
        return page("index.html")

    @router.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return page("docs.html")

    @router.get("/page/{name}", include_in_schema=False)
    def file(name: str) -> Response:
        return page(name)

    @router.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:
        return page("icon.svg")  # of pages that name none

    @router.get("/login", include_in_schema=False)
    def login_page() -> Response:
        return page("login.html")

    @router.post("/login", include_in_schema=False)
    def login(token: Annotated[str, Form(max_length=1000)] = "") -> Response:
        if not access.is_token(token):
            return RedirectResponse("/login?wrong", 303)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE, access.session(), max_age=SESSION_SECONDS, httponly=True, samesite="strict"
        )
        return answer

    @router.get("/health")
    def health() -> HealthAnswer:
        """Whether the server answers, and whether its model is loaded."""
        return HealthAnswer(status="ok", model=site.model)

    @router.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        """Counters in Prometheus' text format."""
        images = 0
        if isinstance(site, RunSite):
            try:
                images = len(site.snapshot().index)
            except FadeError:
                images = 0
        text = telemetry.text(waiting=judge.waiting, images=images)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")
