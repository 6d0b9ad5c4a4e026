"""Measurements: ours beside a plain version, on the same threads in one run."""
