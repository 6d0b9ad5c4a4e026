"""Lets a graph find its weights within another file than the one that it was written with."""

from __future__ import annotations

from collections.abc import Callable

from fade.portable.check import fields, text

_GRAPH, _INITIALIZER, _NAME, _EXTERNAL = 7, 5, 8, 13
"""Numbers of fields: ModelProto.graph, GraphProto.initializer, TensorProto.name and external_data."""


def placed(graph: bytes, names: frozenset[str], file: str, start: int) -> bytes:
    """A checked graph whose weights of some names lie in a file, from a byte of it on.

    Args:
        graph: the ONNX file.
        names: of weights; the others stay where they are.
        file: its name.
        start: where the weights' own file begins within it.
    """

    def entry(part: memoryview) -> bytes:
        parts = {field.number: text(field.data) for field in fields(part)}
        key, value = parts.get(1, ""), parts.get(2, "")
        if key == "location":
            value = file
        elif key == "offset":
            value = str(int(value) + start)
        return _field(1, key.encode()) + _field(2, value.encode())

    def tensor(part: memoryview) -> bytes:
        name = [text(field.data) for field in fields(part) if field.number == _NAME][-1:]
        return _changed(part, _EXTERNAL, entry) if name and name[0] in names else bytes(part)

    return _changed(memoryview(graph), _GRAPH, lambda part: _changed(part, _INITIALIZER, tensor))


def _changed(message: memoryview, number: int, change: Callable[[memoryview], bytes]) -> bytes:
    """A message with the fields of one number changed."""
    return b"".join(
        _field(number, change(field.data)) if field.number == number else field.raw
        for field in fields(message)
    )


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
