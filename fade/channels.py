"""Mean and standard deviation of a model's input, which its config gives."""

from __future__ import annotations

import math
from typing import Any

from fade.errors import ModelError

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of red, green and blue, after pixels are divided by 255."""


def channel_statistics(mean: Any, std: Any, of: str) -> Statistics:
    """Those of a config, which may come from anywhere: others make features of NaN, or none.

    Args:
        mean, std: of three channels.
        of: the parameter that names the model, and the model.

    Raises:
        ModelError: they are not three finite numbers each, or a deviation is not above 0.

    Examples:
        >>> channel_statistics([0.5, 0.5, 0.5], [1, 1, 1], "model.name: small.json")
        ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
        >>> channel_statistics([0.5, 0.5, 0.5], [0, 0, 0], "model.name: small.json")
        Traceback (most recent call last):
            ...
        fade.errors.ModelError: model.name: small.json has mean [0.5, 0.5, 0.5] and std [0, 0, 0]: ...
    """
    found = []
    for given, least in ((mean, -math.inf), (std, 0)):
        values = given if isinstance(given, list | tuple) else ()
        numbers = [
            float(one) for one in values if type(one) in (int, float) and least < one < math.inf
        ]
        if len(values) != 3 or len(numbers) != 3:
            raise ModelError(
                f"{of} has mean {str(mean)[:60]} and std {str(std)[:60]}: correct its config to three "
                "finite numbers each, those of std above 0"
            )
        found.append(tuple(numbers))
    return found[0], found[1]
