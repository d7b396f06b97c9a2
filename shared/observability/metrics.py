"""Every metric of every service, declared once: name, kind, meaning, labels, buckets, and the services that expose it.

A label has few values, which are known in advance: route templates, types, engines. It never holds an id, an owner or
a path. The meanings are the text of docs/observability.md: run `make docs` after a change.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeVar

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

# Without this each counter has a second series, which repeats the start time of the process.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Service(StrEnum):
    """The service that exposes a metric."""

    GATEWAY = "gateway"
    PROCESSOR = "processor"
    INDEXER = "indexer"


ENGINES = ("kafka", "s3", "cassandra")
COMMAND_TYPES = ("image.uploaded", "image.replaced", "image.deleted", "image.reprocess", "owner.cleared")
EVERY = tuple(Service)
CONSUMERS = (Service.PROCESSOR, Service.INDEXER)

QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Seconds of requests, acks and rows. They take 2 to 20 milliseconds if nothing is overloaded."""
SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Seconds of work on images, and of waiting in the log. A photo takes about half a second, a backlog minutes."""


@dataclass(frozen=True)
class Metric:
    """One entry of the catalogue. `buckets` are the upper bounds of a histogram, in the unit that the name ends with.

    `values`, if given, are the values of the only label. Each of them has its series from the start, at 0: Prometheus
    does not count the first appearance of a series as an increase.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    services: tuple[Service, ...]
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def unit(self) -> str:
        """Unit of the values, taken from the name; empty if the metric counts things."""
        return next((unit for unit in ("seconds", "bytes", "pixels") if unit in self.name.split("_")), "")


CATALOGUE: list[Metric] = []
"""All metrics. docs/observability.md is generated from this list; tests check dashboard and alerts against it."""

_REGISTRIES = {service: CollectorRegistry() for service in Service}

M = TypeVar("M", Counter, Gauge, Histogram)


def _declared(metric: Metric, make: Callable[[Metric], M]) -> M:
    CATALOGUE.append(metric)
    collector = make(metric)
    for value in metric.values:
        collector.labels(value)
    for service in metric.services:
        _REGISTRIES[service].register(collector)
    return collector


def _counter(
    services: Sequence[Service], name: str, meaning: str, *labels: str, values: tuple[str, ...] = ()
) -> Counter:
    metric = Metric(name, "counter", meaning, tuple(services), labels, values)
    return _declared(metric, lambda given: Counter(given.name, given.meaning, given.labels, registry=None))


def _gauge(services: Sequence[Service], name: str, meaning: str, *labels: str) -> Gauge:
    metric = Metric(name, "gauge", meaning, tuple(services), labels)
    return _declared(metric, lambda given: Gauge(given.name, given.meaning, given.labels, registry=None))


def _histogram(
    services: Sequence[Service],
    name: str,
    meaning: str,
    *labels: str,
    values: tuple[str, ...] = (),
    buckets: tuple[float, ...],
) -> Histogram:
    metric = Metric(name, "histogram", meaning, tuple(services), labels, values, buckets)
    return _declared(
        metric, lambda given: Histogram(given.name, given.meaning, given.labels, registry=None, buckets=given.buckets)
    )


def exposition(service: Service) -> bytes:
    """Metrics of this service and of its process (memory, CPU, open files, start time) in Prometheus' text format."""
    return generate_latest(_REGISTRIES[service]) + generate_latest(REGISTRY)


# Every service

DEPENDENCY_UP = _gauge(
    EVERY,
    "imagepipe_dependency_up",
    "1 while this check of `/readyz` passes, 0 while it fails. Checked every 10 seconds.",
    "dependency",
)

# Gateway

_GATEWAY = (Service.GATEWAY,)

REQUESTS = _counter(
    _GATEWAY,
    "imagepipe_gateway_requests_total",
    "Requests by route template and status. Status 499: the client closed the connection before the answer.",
    "method",
    "route",
    "status",
)
REQUEST_SECONDS = _histogram(
    _GATEWAY,
    "imagepipe_gateway_request_seconds",
    "Time from the first byte of a request to the last byte of its answer.",
    "method",
    "route",
    buckets=QUICK,
)
REQUESTS_IN_FLIGHT = _gauge(_GATEWAY, "imagepipe_gateway_requests_in_flight", "Requests in progress.")
RECEIVED_BYTES = _counter(_GATEWAY, "imagepipe_gateway_received_bytes_total", "Bytes of request bodies.", "route")
SENT_BYTES = _counter(_GATEWAY, "imagepipe_gateway_sent_bytes_total", "Bytes of response bodies.", "route")
UPLOADS_IN_FLIGHT = _gauge(
    _GATEWAY, "imagepipe_gateway_uploads_in_flight", "Uploads in progress, at most MAX_CONCURRENT_UPLOADS."
)
UPLOAD_BYTES = _gauge(
    _GATEWAY, "imagepipe_gateway_upload_bytes", "Memory that uploads hold, at most MAX_UPLOAD_MEMORY."
)
REFUSED = _counter(
    _GATEWAY,
    "imagepipe_gateway_refused_total",
    "Uploads refused with 429, by the exhausted resource. `address`: the slots of one client address.",
    "resource",
    values=("slots", "address", "memory"),
)
WAITING_REQUESTS = _gauge(
    _GATEWAY, "imagepipe_gateway_waiting_requests", "Requests that wait for variants because of `Prefer: wait`."
)
EVENT_LISTENERS = _gauge(_GATEWAY, "imagepipe_gateway_event_listeners", "Open streams of live events.")
EVENT_LISTENERS_DROPPED = _counter(
    _GATEWAY,
    "imagepipe_gateway_event_listeners_dropped_total",
    "Streams of live events that ended because the client read too slowly.",
)
COMMANDS_APPENDED = _counter(
    _GATEWAY,
    "imagepipe_gateway_commands_total",
    "Commands that all in-sync replicas acknowledged.",
    "type",
    values=COMMAND_TYPES,
)
APPEND_SECONDS = _histogram(
    _GATEWAY,
    "imagepipe_gateway_append_seconds",
    "Time from sending a command to the ack of all in-sync replicas.",
    buckets=QUICK,
)
UNKNOWN_OUTCOMES = _counter(
    _GATEWAY,
    "imagepipe_gateway_unknown_outcomes_total",
    "Commands without an ack before the time-out. They may be in the log or not; the gateway answers 503.",
    "type",
    values=COMMAND_TYPES,
)
UNAVAILABLE = _counter(
    _GATEWAY,
    "imagepipe_gateway_unavailable_total",
    "Requests, or files of a request, refused because a dependency was unavailable. Unknown outcomes are included.",
    "dependency",
    values=ENGINES,
)
ROW_FAILURES = _counter(
    _GATEWAY,
    "imagepipe_gateway_row_failures_total",
    "Rows that the gateway could not write after an acknowledged command. The indexer writes them.",
)
CACHE_READS = _counter(
    _GATEWAY,
    "imagepipe_gateway_cache_reads_total",
    "Reads of a cache (lists, days or rows). hit: the value was cached; miss: the gateway queried the index.",
    "cache",
    "result",
)

# Both consumers of the log

LAG = _gauge(
    CONSUMERS,
    "imagepipe_consumer_lag",
    "Records between the committed position and the end of an assigned partition.",
    "topic",
    "partition",
)
OLDEST_SECONDS = _gauge(
    CONSUMERS,
    "imagepipe_consumer_oldest_seconds",
    "Time since the append of the oldest record that is read and not settled. 0 if there is none.",
)
ASSIGNED_PARTITIONS = _gauge(
    CONSUMERS, "imagepipe_consumer_assigned_partitions", "Partitions assigned to this process."
)
REBALANCES = _counter(
    CONSUMERS, "imagepipe_consumer_rebalances_total", "Rebalances in which this process lost its partitions."
)
COMMITS = _counter(
    CONSUMERS,
    "imagepipe_consumer_commits_total",
    "Commits of positions. done: Kafka accepted it; lost: a rebalance came first.",
    "result",
    values=("done", "lost"),
)
RETRIES = _counter(
    CONSUMERS,
    "imagepipe_consumer_retries_total",
    "Failed attempts that the service repeats, by the unavailable dependency. unexpected: an unexpected error.",
    "reason",
    values=(*ENGINES, "render pool", "unexpected"),
)
DEAD_LETTERS = _counter(
    CONSUMERS,
    "imagepipe_consumer_dead_letters_total",
    "Records written to the DLQ. unreadable: they cannot be parsed; too_large: Kafka refuses the size of their answer; "
    "unexpected: every attempt failed unexpectedly.",
    "reason",
    values=("unreadable", "too_large", "unexpected"),
)

# Processor

_PROCESSOR = (Service.PROCESSOR,)

COMMANDS = _counter(
    _PROCESSOR,
    "imagepipe_processor_commands_total",
    "Settled commands. outcome: the type of the answer, `fence` (the processor does nothing), or `dead_lettered`.",
    "type",
    "outcome",
)
COMMAND_SECONDS = _histogram(
    _PROCESSOR,
    "imagepipe_processor_command_seconds",
    "Time from the start of a command to its answer, with retries, without the wait in its lane.",
    "type",
    buckets=SLOW,
)
QUEUE_SECONDS = _histogram(
    _PROCESSOR,
    "imagepipe_processor_queue_seconds",
    "Time from the append of a command to its start: the wait in the log and in its lane.",
    buckets=SLOW,
)
STAGE_SECONDS = _histogram(
    _PROCESSOR,
    "imagepipe_processor_stage_seconds",
    "Time of each stage of a command. look_up: read tombstone and manifests; slot: wait for a render process.",
    "stage",
    values=("look_up", "download", "slot", "render", "upload", "manifest", "delete", "publish"),
    buckets=SLOW,
)
READY_SECONDS = _histogram(
    _PROCESSOR,
    "imagepipe_processor_ready_seconds",
    "Time from the append of an upload or replacement to the ack of its `image.ready`. Only new renders count.",
    buckets=SLOW,
)
RUNNING = _gauge(_PROCESSOR, "imagepipe_processor_running", "Commands in progress, at most MAX_INFLIGHT_IMAGES.")
WAITING = _gauge(_PROCESSOR, "imagepipe_processor_waiting", "Commands that are read and not started.")
HELD_BYTES = _gauge(
    _PROCESSOR,
    "imagepipe_processor_held_bytes",
    "Bytes of the originals in progress, at most MAX_INFLIGHT_BYTES or one image.",
)
HELD_PIXELS = _gauge(
    _PROCESSOR,
    "imagepipe_processor_held_pixels",
    "Pixels of the commands in progress: at most MAX_INFLIGHT_PIXELS, or one image and a quarter of it.",
)
RENDER_WORKERS = _gauge(_PROCESSOR, "imagepipe_processor_render_workers", "Render processes that the pool may have.")
RENDER_BUSY = _gauge(_PROCESSOR, "imagepipe_processor_render_busy", "Render processes that are working on an image.")
RENDER_MEMORY_BYTES = _gauge(
    _PROCESSOR, "imagepipe_processor_render_memory_bytes", "Resident memory of all render processes together."
)
RENDER_REPLACED = _counter(
    _PROCESSOR,
    "imagepipe_processor_render_replaced_total",
    "Render processes that crashed, that took too long, or whose image was cancelled.",
    "reason",
    values=("crashed_decoder", "timeout", "cancelled"),
)

RENDER_SANDBOX = _gauge(
    _PROCESSOR,
    "imagepipe_processor_render_sandbox",
    "Whether this protection holds for every render process: 1 or 0.",
    "protection",
)

# Indexer

_INDEXER = (Service.INDEXER,)

RECORDS = _counter(
    _INDEXER,
    "imagepipe_indexer_records_total",
    "Settled records. type: `unreadable` if it cannot be parsed. result: applied, dead_lettered, or skipped (an "
    "unreadable command, which the processor dead-letters).",
    "topic",
    "type",
    "result",
)
RECORD_SECONDS = _histogram(
    _INDEXER,
    "imagepipe_indexer_record_seconds",
    "Time from the start of a record to the ack of its rows, with waiting and retries.",
    "topic",
    buckets=QUICK,
)
DELAY_SECONDS = _histogram(
    _INDEXER,
    "imagepipe_indexer_delay_seconds",
    "Time from the append of a record to the ack of its rows: how far the index is behind.",
    "topic",
    buckets=SLOW,
)
RECORDS_IN_FLIGHT = _gauge(_INDEXER, "imagepipe_indexer_records_in_flight", "Records that are started and not settled.")
FENCE_DELETIONS = _counter(
    _INDEXER, "imagepipe_indexer_fence_deletions_total", "Delete commands that the indexer appended at fences."
)
