"""Kinds of numbers that an exported model computes in."""

from typing import Literal

Numbers = Literal["fp32", "int8"]
"""Of linear layers; all else is in float32."""
