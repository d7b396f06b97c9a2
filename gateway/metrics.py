"""Every metric of the gateway, with its kind and meaning."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("imagepipe_gateway_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "imagepipe_gateway_request_seconds",
    "Seconds from a request's first byte to the last byte of its answer.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
UPLOADS = Gauge("imagepipe_gateway_uploads_in_flight", "Uploads that hold a slot.")
UPLOAD_BYTES = Gauge("imagepipe_gateway_upload_bytes", "Bytes of uploads in memory.")
REFUSED = Counter("imagepipe_gateway_refused_total", "Uploads refused with 429, by what had run out.", ["resource"])
ACCEPTED = Counter("imagepipe_gateway_commands_total", "Commands appended to the log, by type.", ["type"])
ROW_FAILURES = Counter(
    "imagepipe_gateway_row_failures_total", "Rows that the gateway could not write itself; the indexer does."
)
