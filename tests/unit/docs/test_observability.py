"""Dashboard, alerts and their page name only metrics, labels and runbooks that exist."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.generate import dashboard as make_dashboard
from docs.generate import observability
from shared.observability.metrics import CATALOGUE, Service, exposition
from tests.support.promql import WrongQueryError, labels_of

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"


def rules(file: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((PROMETHEUS / file).read_text())["groups"] for rule in group["rules"]]


RECORDED = {rule["record"]: rule["expr"] for rule in rules("rules.yml")}
ALERTS = rules("alerts.yml")
PANELS = [panel for row in make_dashboard.ROWS.values() for panel in row]


def label_names(template: str) -> set[str]:
    return set(re.findall(r"\$labels\.(\w+)", template))


@pytest.mark.parametrize("name", list(RECORDED))
def test_recorded_series_are_made_of_metrics_that_exist(name: str) -> None:
    labels_of(RECORDED[name], RECORDED)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_alert_names_existing_metrics_labels_and_a_runbook(alert: dict[str, Any]) -> None:
    found = labels_of(alert["expr"], RECORDED)

    assert label_names(alert["annotations"]["summary"]) <= found
    assert alert["labels"]["severity"] in {"critical", "warning"}
    page = ROOT / alert["annotations"]["runbook"]
    assert page.parent == ROOT / "docs" / "runbooks"
    assert page.read_text().startswith("# ")


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_a_panel_names_metrics_and_labels_that_exist(panel: make_dashboard.Panel) -> None:
    for legend, query in panel.queries.items():
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels_of(query, RECORDED), legend


@pytest.mark.parametrize(
    "query",
    [
        "imagepipe_gateway_nothing_total",
        "imagepipe_processor_ready_seconds",
        'imagepipe_consumer_commits_total{result="perhaps"}',
        'imagepipe_consumer_commits_total{partition="1"}',
        "sum by (owner) (imagepipe_consumer_lag)",
        "rate(imagepipe_consumer_lag[5m])",
        "histogram_quantile(0.9, sum(rate(imagepipe_processor_ready_seconds_bucket[5m])))",
        "imagepipe_consumer_lag unless on (route) imagepipe_consumer_lag",
    ],
)
def test_invalid_query_is_found(query: str) -> None:
    with pytest.raises(WrongQueryError):
        labels_of(query)


def test_dashboard_is_current() -> None:
    assert make_dashboard.TARGET.read_text() == make_dashboard.text(), "run: make docs"


def test_the_dashboard_is_provisioned_with_its_data_source() -> None:
    grafana = ROOT / "deploy" / "grafana"
    [source] = yaml.safe_load((grafana / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((grafana / "provisioning/dashboards/imagepipe.yml").read_text())["providers"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounts = dict(mount.split(":")[:2] for mount in services["grafana"]["volumes"])

    dashboard = json.loads(make_dashboard.TARGET.read_text())
    sources = {target["datasource"]["uid"] for panel in dashboard["panels"] for target in panel.get("targets", [])}
    assert sources == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(set(places)) == len(places)
    assert all(left + width <= make_dashboard.WIDTH for left, _, width, _ in places)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus' promtool is not installed")
def test_alerts_fire_as_their_test_file_states() -> None:
    argv = ["promtool", "test", "rules", str(PROMETHEUS / "alerts_test.yml")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


def test_prometheus_reads_the_rules() -> None:
    assert yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["rule_files"] == ["rules.yml", "alerts.yml"]


def test_observability_page_is_current_and_has_every_metric_and_alert() -> None:
    page = observability.TARGET.read_text()

    assert page == observability.filled(page), "run: make docs"
    for name in [*(metric.name for metric in CATALOGUE), *(alert["alert"] for alert in ALERTS)]:
        assert page.count(f"| `{name}` |") == 1


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_a_metric_is_well_formed(metric: Any) -> None:
    assert re.fullmatch(r"imagepipe_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.meaning.endswith(".")
    assert metric.buckets == tuple(sorted(metric.buckets))
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert metric.unit == "seconds" or not metric.buckets
    assert not metric.values or len(metric.labels) == 1
    assert not {"image_id", "owner", "owner_id", "path", "version", "user"} & set(metric.labels)


@pytest.mark.parametrize("service", list(Service))
def test_a_service_exposes_its_own_metrics(service: Service) -> None:
    text = exposition(service).decode()

    families = set(re.findall(r"^# TYPE (imagepipe_\S+)", text, re.MULTILINE))
    assert families == {metric.name for metric in CATALOGUE if service in metric.services}


def test_without_a_collector_nothing_is_loaded_for_traces() -> None:
    code = """
import sys, threading, gateway.__main__, processor.__main__, indexer.__main__
from shared.settings import Settings
from shared.observability.tracing import configure_tracing, continued, span, traceparent
configure_tracing(Settings(_env_file=None, otel_exporter_otlp_endpoint=None), "gateway")()
header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
with span("a", parent=continued(header)), span("b"):
    assert traceparent() == header
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk") or "otlp" in name]
assert threading.active_count() == 1, threading.enumerate()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
