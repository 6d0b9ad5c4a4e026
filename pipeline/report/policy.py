"""What a browser may do with the report: its own script, pictures in it, originals beside it."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


def page_part(name: str) -> str:
    """A file that the page is made of."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def script_digest(script: str) -> str:
    """What a content security policy calls an inline script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def content_policy(script: str) -> str:
    """The content security policy of a page with one inline script.

    Pictures come from the page itself, from the server that sent it, or from a file beside it.
    """
    return (
        "default-src 'none'; img-src data: 'self' file:; style-src 'unsafe-inline'; "
        f"script-src '{script_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
