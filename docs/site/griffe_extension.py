"""What docs/site/mkdocs.yml loads into griffe, which reads the code; nothing else imports it."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object

from docs.site.docstrings import readable


class Docstrings(Extension):
    """Makes every docstring readable before it is parsed."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Change an object's docstring in place."""
        if obj.docstring:
            obj.docstring.value = readable(obj.docstring.value)
