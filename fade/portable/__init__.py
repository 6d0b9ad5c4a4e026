"""Encoders as ONNX graphs, which run without torch: written, checked and run."""

import os

# else onnxruntime, from 1.29 on, sends its maker what it runs; it looks here when it is imported
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
