"""The three services start and end alike: exit codes, signals, and what they log about it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.observability.metrics import Service
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[3]
UNREACHABLE = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "CASSANDRA_CONTACT_POINTS": "127.0.0.1",
    "CASSANDRA_PORT": "1",
    "S3_ENDPOINT_URL": "http://127.0.0.1:1",
    "GATEWAY_INTERNAL_PORT": "0",
}


def environment(changes: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
    return kept | {"PYTHONPATH": str(ROOT), **changes}


def run(*argv: str, directory: Path, **changes: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, log lines and the whole output of a Python process. Runs where there is no `.env`."""
    ended = subprocess.run(
        [sys.executable, *argv],
        env=environment(changes), cwd=directory, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()], ended.stdout + ended.stderr


@pytest.mark.parametrize("service", list(Service))
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"KAFKA_SEND_TIMEOUT": "soon"}, "KAFKA_SEND_TIMEOUT"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_CA_FILE": __file__}, "KAFKA_CA_FILE"),
    ],
    ids=["an invalid value", "a file of another kind"],
)
def test_wrong_setting_ends_a_service_with_2_and_a_sentence(
    service: Service, changes: dict[str, str], complaint: str, tmp_path: Path
) -> None:
    code, lines, output = run("-m", service, directory=tmp_path, **changes)
    assert code == 2, output
    assert [(line["event"], line["service"], line["exit_code"]) for line in lines] == [("service_failed", service, 2)]
    assert complaint in lines[0]["error"]
    assert "Traceback" not in output


@pytest.mark.parametrize("service", [Service.PROCESSOR, Service.INDEXER])
def test_unavailable_engine_ends_a_consumer_with_1_and_a_sentence(service: Service, tmp_path: Path) -> None:
    code, lines, output = run("-m", service, directory=tmp_path, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert code == 1, output
    assert (lines[-1]["event"], lines[-1]["exit_code"]) == ("service_failed", 1)
    assert "kafka" in lines[-1]["error"]
    assert "Traceback" not in output


def test_port_in_use_ends_a_gateway_with_1_and_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, lines, output = run("-m", "gateway", directory=tmp_path, **UNREACHABLE, GATEWAY_PORT=port)
    assert code == 1, output
    assert (lines[-1]["event"], lines[-1]["exit_code"]) == ("service_failed", 1)
    assert f"127.0.0.1:{port}" in lines[-1]["error"]
    assert "Traceback" not in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_gateway_with_0_while_it_connects(number: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway"], env=environment(UNREACHABLE), cwd=tmp_path, stdout=output
        )
    try:
        wait_for(lambda: "internal_server_started" in log.read_text(), 60, "the gateway has begun")
        process.send_signal(number)
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    stopping, stopped = (line for line in lines if line["event"] in ("service_stopping", "service_stopped"))
    assert (stopping["event"], stopping["reason"], stopped["event"]) == (
        "service_stopping", number.name, "service_stopped",
    )  # fmt: skip


UNEXPECTED = """
from shared.observability.metrics import Service
from shared.service import run_service

async def serve(settings, stop):
    raise KeyError("name")

run_service(Service.INDEXER, serve)
"""


def test_unexpected_error_ends_a_service_with_1_and_its_stack(tmp_path: Path) -> None:
    code, lines, output = run("-c", UNEXPECTED, directory=tmp_path)
    assert code == 1, output
    assert [(line["event"], line["error"]) for line in lines] == [("service_failed", "KeyError: 'name'")]
    assert "exception" in lines[0]
