"""The command for people who look and machines that ask: serve."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fade.errors import ParameterError
from pipeline.cli.app import app
from pipeline.cli.options import Download, Seed, Shots, Weights, echo

if TYPE_CHECKING:
    from pipeline.serve.site import Site

NEEDED = ("fastapi", "uvicorn", "python_multipart")


def _site(
    place: Path, weights: Path | None, download: bool, shots: int | None, seed: int | None
) -> Site:
    from pipeline.serve.site import BundleSite, RunSite

    if place.is_dir():
        if weights is not None or download:
            raise ParameterError(
                "--weights and --download go with a bundle: a run has its own model"
            )
        return RunSite(place, shots, seed)
    if not place.exists():
        raise ParameterError(f"{place} is not there: name a project's folder or a bundle")
    if shots is not None or seed is not None:
        raise ParameterError("--shots and --seed go with runs: a bundle holds one trial")
    return BundleSite(place, weights, download)


@app.command(epilog="Example: fade serve")
def serve(
    place: Annotated[
        Path, typer.Argument(metavar="[PROJECT | BUNDLE]", help="Default: this folder.")
    ] = Path(),
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; another one needs --token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0: one that is free.")
    ] = 8080,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="FADE_TOKEN", help="A secret that clients must bring."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A further name of this server; may be repeated."),
    ] = None,
    browse: Annotated[
        bool, typer.Option("--open/--no-open", help="Whether to open the page in a browser.")
    ] = False,
    weights: Weights = None,
    download: Download = False,
    shots: Shots = None,
    seed: Seed = None,
) -> None:
    """Look at a finished run in a browser, correct labels, and judge new images over HTTP."""
    if lacking := [name for name in NEEDED if find_spec(name) is None]:
        raise ParameterError(
            f"fade serve needs {', '.join(lacking)}: install them with `pip install "
            "'fade-pipeline[serve]'`"
        )
    from pipeline.serve.access import Access
    from pipeline.serve.app import create_app
    from pipeline.serve.limits import Limits
    from pipeline.serve.server import bound_socket, make_server

    access = Access(host, token, allow_host or ())
    site = _site(place, weights, download, shots, seed)
    limits = Limits()
    listening = bound_socket(host, port)
    number = listening.getsockname()[1]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{number}/"
    server = make_server(
        create_app(site, access, limits), limits, browse=address if browse else None,
        say=lambda: echo(f"{site.name}: {address} (end with Ctrl+C)", err=True),
    )  # fmt: skip
    server.serve_on(listening)
