"""FADE: few-shot and zero-shot visual anomaly detection from CLIP and GEM features."""

__version__ = "0.1.0"
