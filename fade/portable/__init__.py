"""Encoders as ONNX graphs, which run without torch: written, checked and run."""
