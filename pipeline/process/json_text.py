"""JSON for people's terminals and for other programs."""

from __future__ import annotations

import json
from typing import Any

from fade.errors import CONTROL


def json_text(content: Any, indent: int | None = None) -> str:
    """Content as JSON whose texts steer no terminal, and any that UTF-8 can hold.

    Raises:
        ValueError: a number is not finite.

    Examples:
        >>> json_text({"name": "größe.png", "score": 0.5})
        '{"name": "größe.png", "score": 0.5}'
        >>> "\\\\u001b" in json_text({"name": chr(27) + "[31m.png"})
        True
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    # line breaks are those of the indent: within texts they are escaped already
    return CONTROL.sub(
        lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text
    )
