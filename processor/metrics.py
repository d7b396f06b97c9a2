"""Every metric of the processor."""

from prometheus_client import Counter, Gauge, Histogram

COMMANDS = Counter(
    "imagepipe_processor_commands_total",
    "Commands done with. outcome: type of the answer, fence (nothing to do here), or dead_lettered.",
    ["type", "outcome"],
)
COMMAND_SECONDS = Histogram(
    "imagepipe_processor_command_seconds",
    "From starting a command to its settled answer, retries included, the wait in its lane not.",
    ["type"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
RENDER_SECONDS = Histogram(
    "imagepipe_processor_render_seconds",
    "Decoding and encoding one image, the wait for a process not.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
RETRIES = Counter(
    "imagepipe_processor_retries_total",
    "Attempts that failed and were repeated. reason: the engine that was away, or unforeseen.",
    ["reason"],
)
RUNNING = Gauge("imagepipe_processor_running", "Commands under way.")
WAITING = Gauge("imagepipe_processor_waiting", "Commands read and not started.")
COMMITS = Counter("imagepipe_processor_commits_total", "Commits. result: done, or lost to a rebalance.", ["result"])
LAG = Gauge("imagepipe_processor_lag", "Records between the committed position and the end.", ["partition"])
PARTITIONS = Gauge("imagepipe_processor_assigned_partitions", "Partitions assigned to this process.")
