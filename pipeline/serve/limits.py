"""What a client may ask of the server at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may ask of the server at most.

    Attributes:
        body_bytes: of one request.
        held_bytes: of all requests whose images are read or wait.
        images: of one ``POST /predict``.
        waiting: requests that wait for a decision; more are told to come again.
        body_seconds: for the body of a request to arrive.
        answer_seconds: until a decision is there.
        header_seconds: for the head of a request to arrive.
        idle_seconds: that a client may take nothing of its answer, or stay between two requests.
        connections: open at once.
    """

    body_bytes: int = 32 << 20
    held_bytes: int = 256 << 20
    images: int = 32
    pixels: int = 50_000_000
    waiting: int = 64
    body_seconds: float = 30.0
    answer_seconds: float = 60.0
    header_seconds: float = 10.0
    idle_seconds: float = 30.0
    connections: int = 256
