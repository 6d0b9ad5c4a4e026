"""Counters of the server, as Prometheus reads them."""

from __future__ import annotations

import threading
import time
from collections import Counter

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds of a prediction, from its request to its answer."""


class Telemetry:
    """Counts requests and predictions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start = time.time()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._decisions: Counter[tuple[str, str]] = Counter()
        self._buckets = [0] * len(BUCKETS)
        self._seconds = 0.0
        self._count = 0

    def add_request(self, method: str, route: str, status: int) -> None:
        """Count a request by the route that answered it, not by its path."""
        with self._lock:
            self._requests[method, route, status] += 1

    def add_decision(self, category: str, decision: str | None) -> None:
        """Count a new image by what was said of it."""
        with self._lock:
            self._decisions[category, decision or "none"] += 1

    def add_seconds(self, seconds: float) -> None:
        """Note how long a ``POST /predict`` took."""
        with self._lock:
            self._seconds += seconds
            self._count += 1
            for number, most in enumerate(BUCKETS):
                self._buckets[number] += seconds <= most

    def text(self, *, waiting: int, images: int) -> str:
        """All counters in Prometheus' text format.

        Args:
            waiting: requests that wait for a decision now.
        """
        with self._lock:
            lines = [
                "# TYPE fade_requests_total counter",
                *(
                    f'fade_requests_total{{method="{_escaped(method)}",route="{_escaped(route)}",'
                    f'status="{status}"}} {count}'
                    for (method, route, status), count in sorted(self._requests.items())
                ),
                "# TYPE fade_predictions_total counter",
                *(
                    f'fade_predictions_total{{category="{_escaped(category)}",'
                    f'decision="{decision}"}} {count}'
                    for (category, decision), count in sorted(self._decisions.items())
                ),
                "# TYPE fade_predict_seconds histogram",
                *(
                    f'fade_predict_seconds_bucket{{le="{most}"}} {count}'
                    for most, count in zip(BUCKETS, self._buckets, strict=True)
                ),
                f'fade_predict_seconds_bucket{{le="+Inf"}} {self._count}',
                f"fade_predict_seconds_sum {self._seconds:.6f}",
                f"fade_predict_seconds_count {self._count}",
                "# TYPE fade_predict_waiting gauge",
                f"fade_predict_waiting {waiting}",
                "# TYPE fade_images gauge",
                f"fade_images {images}",
                "# TYPE fade_start_time_seconds gauge",
                f"fade_start_time_seconds {self._start:.3f}",
            ]
        return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
