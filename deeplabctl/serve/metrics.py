"""Count what a service does, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import prometheus_client as prometheus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics:
    """Hold the counters of one service; ``waiting`` and ``places`` return the present lengths of its queue.

    With a ``worker``, all numbers have its name as a label: who asks gets those of any of the workers.
    """

    def __init__(self, waiting: Callable[[], int], places: Callable[[], int], worker: str = "") -> None:
        self._worker = worker
        registry = self._registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "deeplabctl_requests", "Requests.", ("method", "route", "status"), registry=registry
        )  # fmt: skip
        self._request_seconds = prometheus.Histogram(
            "deeplabctl_request_seconds", "Time from a request to its answer.", ("route",), buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._segment_seconds = prometheus.Histogram(
            "deeplabctl_segment_seconds", "Time of decoding, network and CRF.", ("crf",), buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._waited_seconds = prometheus.Histogram(
            "deeplabctl_waited_seconds", "Time of an image in the queue.", buckets=_SECONDS, registry=registry
        )
        self._pixels = prometheus.Counter("deeplabctl_pixels", "Pixels of the segmented images.", registry=registry)
        prometheus.Gauge("deeplabctl_waiting", "Images in the queue.", registry=registry).set_function(waiting)
        prometheus.Gauge(
            "deeplabctl_places_taken", "Requests that upload, wait or run.", registry=registry
        ).set_function(places)
        prometheus.ProcessCollector(registry=registry)
        prometheus.PlatformCollector(registry=registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def segmented(self, pixels: int, waited: float, ran: float, *, crf: bool) -> None:
        """Count a segmented image, with its seconds in the queue and after it."""
        self._segment_seconds.labels("on" if crf else "off").observe(ran)
        self._waited_seconds.observe(waited)
        self._pixels.inc(pixels)

    def text(self) -> bytes:
        """Return all numbers, as Prometheus reads them."""
        return prometheus.generate_latest(self)  # which only calls `collect`

    def collect(self) -> Iterator[prometheus.Metric]:
        """Yield all numbers, with their labels."""
        for metric in self._registry.collect():
            if self._worker:
                metric.samples = [
                    each._replace(labels={**each.labels, "worker": self._worker}) for each in metric.samples
                ]
            yield metric
