"""Writes the Grafana dashboard, deploy/grafana/dashboards/imagepipe.json: `python -m docs.generate.dashboard`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards" / "imagepipe.json"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH = 24
HEIGHT = 7


@dataclass(frozen=True)
class Panel:
    """A graph over time (or a `stat`: the latest value). `queries` maps legends to PromQL; `unit` is Grafana's name."""

    title: str
    unit: str
    queries: dict[str, str]
    about: str = ""
    kind: str = "timeseries"


def _quantiles(metric: str, by: str = "") -> dict[str, str]:
    """Median and 95th percentile of a histogram, of each value of the label `by`."""
    labels = ", ".join(filter(None, ("le", by)))
    legend = f"{{{{{by}}}}} " if by else ""
    return {
        f"{legend}p{percent}": f"histogram_quantile(0.{percent}, sum by ({labels}) (rate({metric}_bucket[5m])))"
        for percent in (50, 95)
    }


def _rate(metric: str, by: str = "") -> str:
    return f"sum by ({by}) (rate({metric}[5m]))" if by else f"sum(rate({metric}[5m]))"


ROWS: dict[str, list[Panel]] = {
    "At a glance": [
        Panel(
            "POST to ready, p95", "s", {"p95": "imagepipe:ready_seconds:p95_5m"},
            "Time from the command of an upload to its `image.ready`.", "stat",
        ),
        Panel("Uploads a minute", "short", {"uploads": (
            'sum(rate(imagepipe_gateway_commands_total{type=~"image.uploaded|image.replaced"}[5m])) * 60'
        )}, kind="stat"),
        Panel("Failed requests", "percentunit", {"5xx": "imagepipe:request_errors:ratio_5m"}, kind="stat"),
        Panel("Waiting records", "short", {"{{job}}": "sum by (job) (imagepipe:consumer_lag:sum)"}, kind="stat"),
        Panel("Dead letters, a day", "short", {
            "{{job}}": "sum by (job) (increase(imagepipe_consumer_dead_letters_total[1d]))",
        }, kind="stat"),
        Panel("Unavailable dependencies", "short", {
            "{{job}}: {{dependency}}": "sum by (job, dependency) (1 - imagepipe_dependency_up) > 0",
        }, kind="stat"),
    ],
    "Traffic": [
        Panel("Requests a second", "reqps", {
            "{{method}} {{route}}": _rate("imagepipe_gateway_requests_total", "method, route"),
        }),
        Panel("Answers by status", "reqps", {"{{status}}": _rate("imagepipe_gateway_requests_total", "status")}),
        Panel("Time to answer, p95", "s", {
            "{{method}} {{route}}": "histogram_quantile(0.95, sum by (le, method, route) "
            "(rate(imagepipe_gateway_request_seconds_bucket[5m])))",
        }),
        Panel("Bytes a second", "Bps", {
            "in": _rate("imagepipe_gateway_received_bytes_total"),
            "out": _rate("imagepipe_gateway_sent_bytes_total"),
        }),
    ],
    "Gateway": [
        Panel("Requests in progress", "short", {
            "requests": "sum(imagepipe_gateway_requests_in_flight)",
            "uploads": "sum(imagepipe_gateway_uploads_in_flight)",
            "waiting because of Prefer: wait": "sum(imagepipe_gateway_waiting_requests)",
            "listeners of live events": "sum(imagepipe_gateway_event_listeners)",
        }),
        Panel("Bytes of uploads in memory", "bytes", {"{{instance}}": "imagepipe_gateway_upload_bytes"}),
        Panel("Ack of a command", "s", _quantiles("imagepipe_gateway_append_seconds")),
        Panel("Cache hit ratio", "percentunit", {
            "{{cache}}": 'sum by (cache) (rate(imagepipe_gateway_cache_reads_total{result="hit"}[5m])) '
            "/ sum by (cache) (rate(imagepipe_gateway_cache_reads_total[5m]))",
        }),
    ],
    "From the log to ready": [
        Panel("POST to ready", "s", _quantiles("imagepipe_processor_ready_seconds")),
        Panel("Where the time goes", "s", {
            "queue": "sum(rate(imagepipe_processor_queue_seconds_sum[5m])) "
            "/ sum(rate(imagepipe_processor_queue_seconds_count[5m]))",
            "{{stage}}": "sum by (stage) (rate(imagepipe_processor_stage_seconds_sum[5m])) "
            "/ sum by (stage) (rate(imagepipe_processor_stage_seconds_count[5m]))",
        }, "Mean time of each stage. `queue` is the wait in the log and in the lane."),
        Panel("Answers a second", "short", {
            "{{type}} → {{outcome}}": _rate("imagepipe_processor_commands_total", "type, outcome"),
        }),
        Panel("Records indexed a second", "short", {
            "{{type}} {{result}}": _rate("imagepipe_indexer_records_total", "type, result"),
        }),
    ],
    "Consumers": [
        Panel("Lag", "short", {"{{job}} {{topic}}": "imagepipe:consumer_lag:sum"}),
        Panel("Oldest unsettled record", "s", {"{{job}}": "max by (job) (imagepipe_consumer_oldest_seconds)"}),
        Panel("Commits a minute", "short", {
            "{{job}} {{result}}": "sum by (job, result) (rate(imagepipe_consumer_commits_total[5m])) * 60",
            "{{job}} rebalances": "sum by (job) (rate(imagepipe_consumer_rebalances_total[5m])) * 60",
        }),
        Panel("Delay of the index", "s", _quantiles("imagepipe_indexer_delay_seconds", "topic")),
    ],
    "Rendering": [
        Panel("Commands", "short", {
            "in progress": "sum(imagepipe_processor_running)",
            "waiting": "sum(imagepipe_processor_waiting)",
        }),
        Panel("Render processes", "short", {
            "busy": "sum(imagepipe_processor_render_busy)",
            "total": "sum(imagepipe_processor_render_workers)",
        }),
        Panel("Held by images in progress", "short", {
            "megabytes, {{instance}}": "imagepipe_processor_held_bytes / 1e6",
            "megapixels, {{instance}}": "imagepipe_processor_held_pixels / 1e6",
        }),
        Panel("Render processes replaced", "short", {
            "{{reason}}": "sum by (reason) (increase(imagepipe_processor_render_replaced_total[15m]))",
        }),
    ],
    "Errors": [
        Panel("Dead letters", "short", {
            "{{job}} {{reason}}": "sum by (job, reason) (increase(imagepipe_consumer_dead_letters_total[15m]))",
        }),
        Panel("Errors by dependency", "short", {
            "{{job}} retried: {{reason}}": "sum by (job, reason) (increase(imagepipe_consumer_retries_total[5m]))",
            "gateway: {{dependency}}": "sum by (dependency) (increase(imagepipe_gateway_unavailable_total[5m]))",
            "gateway: rows left to the indexer": "sum(increase(imagepipe_gateway_row_failures_total[5m]))",
            "gateway: outcome unknown": "sum(increase(imagepipe_gateway_unknown_outcomes_total[5m]))",
        }),
        Panel("Memory", "bytes", {
            "{{job}} {{instance}}": 'process_resident_memory_bytes{job=~"gateway|processor|indexer"}',
            "render processes {{instance}}": "imagepipe_processor_render_memory_bytes",
        }),
        Panel("CPU", "percentunit", {
            "{{job}} {{instance}}": 'rate(process_cpu_seconds_total{job=~"gateway|processor|indexer"}[5m])',
        }, "CPU of the service's own process, without its render processes."),
    ],
}  # fmt: skip


def _panel(panel: Panel, number: int, left: int, top: int, width: int, height: int) -> dict[str, Any]:
    """The panel in Grafana's schema."""
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": {"x": left, "y": top, "w": width, "h": height},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "noValue": "0"}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if panel.kind == "timeseries" else {},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def dashboard() -> dict[str, Any]:
    """The whole dashboard: rows of panels of equal width."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "gridPos": place, "panels": []})
        top += 1
        width, height = WIDTH // len(row), 4 if row[0].kind == "stat" else HEIGHT
        for index, panel in enumerate(row):
            panels.append(_panel(panel, len(panels) + 1, index * width, top, width, height))
        top += height
    return {
        "uid": "imagepipe",
        "title": "imagepipe",
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "panels": panels,
    }


def text() -> str:
    """The dashboard as JSON text."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
