"""One image in all services: its trace, its log entries and its metrics."""

import json
import re
import secrets
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.observability.metrics import CATALOGUE, Service
from tests.support.api import JPEG, Api, form
from tests.support.engines.stack import Stack
from tests.support.otlp_collector import Collector, ReceivedSpan
from tests.support.processes.gateway import own_gateway
from tests.support.waiting import wait_for

PARENTS = {
    "POST /images": "the client's",
    "append image.uploaded": "POST /images",
    "handle image.uploaded": "append image.uploaded",
    "look_up": "handle image.uploaded",
    "download": "handle image.uploaded",
    "slot": "handle image.uploaded",
    "render": "handle image.uploaded",
    "upload": "handle image.uploaded",
    "manifest": "handle image.uploaded",
    "publish": "handle image.uploaded",
    "apply image.uploaded": "append image.uploaded",
    "apply image.ready": "publish",
}
"""Each span of an upload, and the one that it is part of."""


@pytest.fixture(scope="module")
def traced(stack: Stack, api: Api) -> Mapping[str, str]:
    """An uploaded image that is ready: `image_id`, `owner`, and the `trace_id` and `span_id` that its client sent."""
    owner, trace_id, span_id = secrets.token_hex(8), secrets.token_hex(16), secrets.token_hex(8)
    answer = api.post(
        "/images",
        params={"user_id": owner},
        files=form(("followed.jpg", JPEG)),
        headers={"traceparent": f"00-{trace_id}-{span_id}-01"},
    )
    image_id = answer.raise_for_status().json()["image_id"]
    assert api.settled(image_id)["status"] == "ready"
    return {"image_id": image_id, "owner": f"user:{owner}", "trace_id": trace_id, "span_id": span_id}


def test_an_upload_is_one_trace_through_all_services(collector: Collector, traced: Mapping[str, str]) -> None:
    def found() -> list[ReceivedSpan]:
        return collector.spans(traced["trace_id"])

    wait_for(lambda: len(found()) >= len(PARENTS), 10, "every service exports its spans")
    spans = {span.name: span for span in found()}

    assert sorted(span.name for span in found()) == sorted(PARENTS)
    names = {span.span_id: name for name, span in spans.items()} | {traced["span_id"]: "the client's"}
    assert {name: names[span.parent_id] for name, span in spans.items()} == PARENTS
    services = {name: spans[name].service for name in ("POST /images", "render", "apply image.ready")}
    assert list(services.values()) == ["imagepipe-gateway", "imagepipe-processor", "imagepipe-indexer"]
    for name in ("append image.uploaded", "handle image.uploaded", "apply image.ready"):
        assert spans[name].attributes["image_id"] == traced["image_id"]


def log_lines(stack: Stack, service: str, image_id: str) -> list[dict[str, Any]]:
    """What the processes of a service have logged about an image."""
    texts = [(stack.root.logs / f"{part}.log").read_text() for part in stack.parts(service)]
    found = [line for text in texts for line in text.splitlines() if line.startswith("{") and image_id in line]
    return [entry for entry in map(json.loads, found) if entry.get("image_id") == image_id]


def test_image_id_is_in_the_logs_of_all_services(stack: Stack, traced: Mapping[str, str]) -> None:
    def found() -> dict[str, list[dict[str, Any]]]:
        return {service: log_lines(stack, service, traced["image_id"]) for service in Service}

    wait_for(lambda: len(found()["indexer"]) >= 2, 10, "the indexer has logged the command and its answer")
    lines = found()

    events = {service: [(line["event"], line.get("type")) for line in found] for service, found in lines.items()}
    assert ("command_appended", "image.uploaded") in events["gateway"]
    assert events["processor"] == [("command_done", "image.uploaded")]
    assert sorted(events["indexer"]) == [("record_done", "image.ready"), ("record_done", "image.uploaded")]
    typed = [line for service in lines.values() for line in service if "type" in line]
    for key in ("owner", "trace_id"):
        assert {line[key] for line in typed} == {traced[key]}
    assert len({line["version"] for line in typed}) == 1
    assert {(line["service"], service) for service, lines in lines.items() for line in lines} == {
        (name, name) for name in Service
    }
    [done] = lines["processor"]
    assert done["stages"].keys() == {"look_up", "download", "slot", "render", "upload", "manifest", "publish"}
    assert done["seconds"] >= done["stages"]["render"] > 0


def exposition(stack: Stack, part: str) -> str:
    return httpx.get(stack.part(part).ready_url.replace("/readyz", "/metrics")).raise_for_status().text


def exposed(stack: Stack, service: str) -> Counter[str]:
    """Every sample of a service: name with labels to value, all its processes together."""
    total: Counter[str] = Counter()
    for part in stack.parts(service):
        samples = [line.rpartition(" ") for line in exposition(stack, part).splitlines() if not line.startswith("#")]
        total.update({name: float(value) for name, _, value in samples})
    return total


@pytest.mark.parametrize("service", list(Service))
def test_a_service_exposes_its_own_metrics_and_no_others(
    stack: Stack, service: Service, traced: Mapping[str, str]
) -> None:
    text = exposition(stack, service)

    families = set(re.findall(r"^# TYPE (imagepipe_\S+)", text, re.MULTILINE))
    assert families == {metric.name for metric in CATALOGUE if service in metric.services}
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text


def test_an_upload_moves_the_metrics_of_every_service(stack: Stack, api: Api, traced: Mapping[str, str]) -> None:
    uploaded, ready = 'type="image.uploaded"', 'topic="images.events"'
    moved = {
        Service.GATEWAY: [
            f"imagepipe_gateway_commands_total{{{uploaded}}}",
            'imagepipe_gateway_requests_total{method="POST",route="/images",status="202"}',
            'imagepipe_gateway_received_bytes_total{route="/images"}',
            "imagepipe_gateway_append_seconds_count",
        ],
        Service.PROCESSOR: [
            f'imagepipe_processor_commands_total{{outcome="image.ready",{uploaded}}}',
            "imagepipe_processor_ready_seconds_count",
            "imagepipe_processor_queue_seconds_count",
            'imagepipe_processor_stage_seconds_count{stage="render"}',
            'imagepipe_consumer_commits_total{result="done"}',
        ],
        Service.INDEXER: [
            f'imagepipe_indexer_records_total{{result="applied",{ready},type="image.ready"}}',
            f"imagepipe_indexer_delay_seconds_count{{{ready}}}",
        ],
    }
    before = {service: exposed(stack, service) for service in moved}
    image_id = api.upload()["image_id"]
    assert api.settled(image_id)["status"] == "ready"

    def risen() -> bool:
        after = {service: exposed(stack, service) for service in moved}
        return all(
            after[service].get(name, 0) > before[service].get(name, 0)
            for service, names in moved.items()
            for name in names
        )

    wait_for(risen, 15, "every metric has risen")
    assert exposed(stack, Service.PROCESSOR)["imagepipe_processor_render_workers"] >= 1
    assert exposed(stack, Service.PROCESSOR)["imagepipe_processor_render_memory_bytes"] > 10_000_000
    for service, engines in {
        Service.GATEWAY: ("kafka", "s3", "cassandra"),
        Service.PROCESSOR: ("kafka", "s3", "group"),
        Service.INDEXER: ("kafka", "cassandra"),
    }.items():
        samples = exposed(stack, service)
        up = {engine: samples[f'imagepipe_dependency_up{{dependency="{engine}"}}'] for engine in engines}
        assert set(up.values()) == {len(stack.parts(service))}, (service, up)


def test_unavailable_collector_does_not_disturb_requests(stack: Stack, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    with own_gateway(stack.settings, tmp_path / "log", otel_exporter_otlp_endpoint=nowhere) as gateway:
        gateway.wait_connected()
        with Api(gateway.base_url) as client:
            image_id = client.upload()["image_id"]
            assert client.settled(image_id)["status"] == "ready"
        gateway.signal(signal.SIGTERM)
        assert gateway.wait_ended(10) == 0
