"""Every metric of the indexer."""

from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter(
    "imagepipe_indexer_records_total",
    "Records done with. result: applied, skipped (a command nobody can read), dead_lettered.",
    ["topic", "result"],
)
RETRIES = Counter(
    "imagepipe_indexer_retries_total",
    "Attempts that failed and were repeated. reason: the engine that was away, or unforeseen.",
    ["reason"],
)
RECORD_SECONDS = Histogram(
    "imagepipe_indexer_record_seconds",
    "From taking a record out of its batch to the ack of its rows, waiting and retries included.",
    ["topic"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
FENCE_DELETIONS = Counter("imagepipe_indexer_fence_deletions_total", "Deletes published at owner.cleared.")
COMMITS = Counter("imagepipe_indexer_commits_total", "Commits. result: done, or lost to a rebalance.", ["result"])
LAG = Gauge("imagepipe_indexer_lag", "Records between the committed position and the end.", ["topic", "partition"])
PARTITIONS = Gauge("imagepipe_indexer_assigned_partitions", "Partitions assigned to this process.")
