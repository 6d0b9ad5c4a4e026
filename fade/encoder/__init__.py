"""CLIP models of open_clip: loading them, and encoding images and texts with them."""

from fade.encoder.encoder import FEATURE_VERSION, Encoder, Encoding
from fade.encoder.seeded import SEEDED, fill_seeded
from fade.types import Precision

__all__ = ["FEATURE_VERSION", "SEEDED", "Encoder", "Encoding", "Precision", "fill_seeded"]
