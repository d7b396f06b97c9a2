"""Every metric of every service, declared once: name, kind, meaning, labels, buckets, and who exposes it.

Labels take few values, all known beforehand: route templates, types, engines; never an id, an owner or a path.
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

# Else each counter has a second series, with the process's start time once more.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Service(StrEnum):
    """Who exposes a metric."""

    GATEWAY = "gateway"
    PROCESSOR = "processor"
    INDEXER = "indexer"


ENGINES = ("kafka", "s3", "cassandra")
COMMAND_TYPES = ("image.uploaded", "image.replaced", "image.deleted", "image.reprocess", "owner.cleared")
EVERY = tuple(Service)
CONSUMERS = (Service.PROCESSOR, Service.INDEXER)

QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Seconds of requests, acks and rows: 2 to 20 milliseconds when all is well."""
SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Seconds of work on images, and of waiting in the log: a photo takes about half a second, a backlog minutes."""


@dataclass(frozen=True)
class Metric:
    """One line of the list. `buckets` are a histogram's upper bounds, in the unit that the name ends with.

    `values`, where given, are those of the only label: each has its series from the start, at 0, because an increase
    from nothing to 1 is none to Prometheus.
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
        """What a value counts: as the name says, else plain numbers of what it names."""
        return next((unit for unit in ("seconds", "bytes", "pixels") if unit in self.name.split("_")), "")


CATALOGUE: list[Metric] = []
"""The list: docs/observability.md is written from it, dashboards and alerts are checked against it."""

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
    """Prometheus' text of what this service measures, and of its process (memory, CPU, open files, start time)."""
    return generate_latest(_REGISTRIES[service]) + generate_latest(REGISTRY)


# Every service

DEPENDENCY_UP = _gauge(
    EVERY,
    "imagepipe_dependency_up",
    "1 while a check of `/readyz` passes, 0 while it does not; looked at every 10 seconds.",
    "dependency",
)

# Gateway

_GATEWAY = (Service.GATEWAY,)

REQUESTS = _counter(
    _GATEWAY,
    "imagepipe_gateway_requests_total",
    "Requests answered, by route template; status 499: the client went away first.",
    "method",
    "route",
    "status",
)
REQUEST_SECONDS = _histogram(
    _GATEWAY,
    "imagepipe_gateway_request_seconds",
    "From a request's first byte to the last byte of its answer.",
    "method",
    "route",
    buckets=QUICK,
)
REQUESTS_IN_FLIGHT = _gauge(_GATEWAY, "imagepipe_gateway_requests_in_flight", "Requests that are being answered.")
RECEIVED_BYTES = _counter(_GATEWAY, "imagepipe_gateway_received_bytes_total", "Bytes of requests' bodies.", "route")
SENT_BYTES = _counter(_GATEWAY, "imagepipe_gateway_sent_bytes_total", "Bytes of answers' bodies.", "route")
UPLOADS_IN_FLIGHT = _gauge(
    _GATEWAY, "imagepipe_gateway_uploads_in_flight", "Uploads that hold one of MAX_CONCURRENT_UPLOADS slots."
)
UPLOAD_BYTES = _gauge(
    _GATEWAY, "imagepipe_gateway_upload_bytes", "Bytes that uploads hold in memory, of MAX_UPLOAD_MEMORY."
)
REFUSED = _counter(
    _GATEWAY,
    "imagepipe_gateway_refused_total",
    "Uploads refused with 429, by what had run out.",
    "resource",
    values=("slots", "memory"),
)
WAITING_REQUESTS = _gauge(
    _GATEWAY, "imagepipe_gateway_waiting_requests", "Requests held back by `Prefer: wait` until variants are ready."
)
COMMANDS_APPENDED = _counter(
    _GATEWAY,
    "imagepipe_gateway_commands_total",
    "Commands that all in-sync replicas have.",
    "type",
    values=COMMAND_TYPES,
)
APPEND_SECONDS = _histogram(
    _GATEWAY,
    "imagepipe_gateway_append_seconds",
    "From sending a command to the ack of all in-sync replicas.",
    buckets=QUICK,
)
UNKNOWN_OUTCOMES = _counter(
    _GATEWAY,
    "imagepipe_gateway_unknown_outcomes_total",
    "Commands without an ack in time: in the log or not, nobody knows; answered with 503.",
    "type",
    values=COMMAND_TYPES,
)
UNAVAILABLE = _counter(
    _GATEWAY,
    "imagepipe_gateway_unavailable_total",
    "Requests, and files of one, that were refused because a dependency was away (unknown outcomes included).",
    "dependency",
    values=ENGINES,
)
ROW_FAILURES = _counter(
    _GATEWAY,
    "imagepipe_gateway_row_failures_total",
    "Rows that the gateway could not write itself after an acknowledged command; the indexer writes them.",
)
CACHE_READS = _counter(
    _GATEWAY,
    "imagepipe_gateway_cache_reads_total",
    "Reads of a cache (lists, days or rows) that found a value (hit) or had to ask the index (miss).",
    "cache",
    "result",
)

# Both consumers of the log

LAG = _gauge(
    CONSUMERS,
    "imagepipe_consumer_lag",
    "Records between the committed position and the end of a partition that is assigned here.",
    "topic",
    "partition",
)
OLDEST_SECONDS = _gauge(
    CONSUMERS,
    "imagepipe_consumer_oldest_seconds",
    "Age, since it was appended, of the oldest record that is taken in and not done with; 0 when there is none.",
)
ASSIGNED_PARTITIONS = _gauge(
    CONSUMERS, "imagepipe_consumer_assigned_partitions", "Partitions assigned to this process."
)
REBALANCES = _counter(CONSUMERS, "imagepipe_consumer_rebalances_total", "Times that partitions were taken away.")
COMMITS = _counter(
    CONSUMERS,
    "imagepipe_consumer_commits_total",
    "Commits of positions: done, or lost to a rebalance.",
    "result",
    values=("done", "lost"),
)
RETRIES = _counter(
    CONSUMERS,
    "imagepipe_consumer_retries_total",
    "Attempts that failed and were repeated, by the dependency that was away, or `unforeseen`.",
    "reason",
    values=(*ENGINES, "render pool", "unforeseen"),
)
DEAD_LETTERS = _counter(
    CONSUMERS,
    "imagepipe_consumer_dead_letters_total",
    "Records written to the DLQ: nobody can read them (unreadable), or they failed again and again (unforeseen).",
    "reason",
    values=("unreadable", "unforeseen"),
)

# Processor

_PROCESSOR = (Service.PROCESSOR,)

COMMANDS = _counter(
    _PROCESSOR,
    "imagepipe_processor_commands_total",
    "Commands done with. outcome: the answer's type, `fence` (nothing to do here), or `dead_lettered`.",
    "type",
    "outcome",
)
COMMAND_SECONDS = _histogram(
    _PROCESSOR,
    "imagepipe_processor_command_seconds",
    "From starting a command to its settled answer, retries included, the wait in its lane not.",
    "type",
    buckets=SLOW,
)
QUEUE_SECONDS = _histogram(
    _PROCESSOR,
    "imagepipe_processor_queue_seconds",
    "From a command's append to the log to its start here: the wait in the log and in its lane.",
    buckets=SLOW,
)
STAGE_SECONDS = _histogram(
    _PROCESSOR,
    "imagepipe_processor_stage_seconds",
    "Parts of handling a command; `look_up`: tombstone and manifests, `slot`: the wait for a render process.",
    "stage",
    values=("look_up", "download", "slot", "render", "upload", "manifest", "delete", "publish"),
    buckets=SLOW,
)
READY_SECONDS = _histogram(
    _PROCESSOR,
    "imagepipe_processor_ready_seconds",
    "From the append of an upload or replacement to the ack of its `image.ready`, for what was rendered just now.",
    buckets=SLOW,
)
RUNNING = _gauge(_PROCESSOR, "imagepipe_processor_running", "Commands under way, of MAX_INFLIGHT_IMAGES.")
WAITING = _gauge(_PROCESSOR, "imagepipe_processor_waiting", "Commands read and not started.")
HELD_BYTES = _gauge(
    _PROCESSOR, "imagepipe_processor_held_bytes", "Bytes of originals of commands under way, of MAX_INFLIGHT_BYTES."
)
HELD_PIXELS = _gauge(
    _PROCESSOR, "imagepipe_processor_held_pixels", "Pixels of commands under way, of MAX_INFLIGHT_PIXELS."
)
RENDER_WORKERS = _gauge(_PROCESSOR, "imagepipe_processor_render_workers", "Places for render processes.")
RENDER_BUSY = _gauge(_PROCESSOR, "imagepipe_processor_render_busy", "Render processes that have an image.")
RENDER_MEMORY_BYTES = _gauge(
    _PROCESSOR, "imagepipe_processor_render_memory_bytes", "Resident memory of all render processes together."
)
RENDER_REPLACED = _counter(
    _PROCESSOR,
    "imagepipe_processor_render_replaced_total",
    "Render processes that died with an image, or were ended because it took too long or was given up.",
    "reason",
    values=("crashed_decoder", "timeout", "cancelled"),
)

# Indexer

_INDEXER = (Service.INDEXER,)

RECORDS = _counter(
    _INDEXER,
    "imagepipe_indexer_records_total",
    "Records done with, `unreadable` in place of a type that nobody can read. result: applied, skipped (an unreadable "
    "command: the processor dead-letters it), dead_lettered.",
    "topic",
    "type",
    "result",
)
RECORD_SECONDS = _histogram(
    _INDEXER,
    "imagepipe_indexer_record_seconds",
    "From taking a record out of its batch to the ack of its rows, waiting and retries included.",
    "topic",
    buckets=QUICK,
)
DELAY_SECONDS = _histogram(
    _INDEXER,
    "imagepipe_indexer_delay_seconds",
    "From a record's append to the log to the ack of its rows: how far behind the index is.",
    "topic",
    buckets=SLOW,
)
RECORDS_IN_FLIGHT = _gauge(_INDEXER, "imagepipe_indexer_records_in_flight", "Records started and not done with.")
FENCE_DELETIONS = _counter(
    _INDEXER, "imagepipe_indexer_fence_deletions_total", "Deletions published when an owner was cleared."
)
