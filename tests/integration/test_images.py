"""The container images: built by Docker if an engine answers, otherwise by their steps in a plain directory."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

from deploy.check_dockerfiles import Build, BuildFailed, Stage

ROOT = Path(__file__).parent.parent.parent
SERVICES = {"Dockerfile.gateway": "gateway", "Dockerfile.processor": "processor"}


def docker_engine() -> docker.DockerClient | None:
    try:
        client = docker.from_env(timeout=5)
        client.ping()
    except DockerException:
        return None
    return client


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Stage]]:
    directory = tmp_path_factory.mktemp("images")
    build = Build(ROOT, directory)
    yield {name: build.run(ROOT / name) for name in SERVICES}
    shutil.rmtree(directory)


def run(stage: Stage, *argv: str) -> subprocess.CompletedProcess[str]:
    """As the container would: with its own variables only, in its directory."""
    return subprocess.run(
        argv, env=stage.env, cwd=stage.inside("."), capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVICES)
def test_image_has_the_modules_of_its_command_and_no_build_tools(stages: dict[str, Stage], name: str) -> None:
    stage = stages[name]
    assert stage.command == ["python", "-m", SERVICES[name]]
    python = str(stage.inside("/app/.venv/bin/python"))

    looked = run(
        stage, python, "-c",
        "import gateway.__main__, processor.__main__, indexer.__main__, importlib.util as u; "
        "from shared.cassandra.schema import MIGRATIONS; assert 'site-packages' in str(MIGRATIONS); "
        "print(len(list(MIGRATIONS.glob('*.cql'))), "
        "[name for name in ('pytest', 'mypy', 'uv', 'pip', 'jgo', 'go', 'minio') if u.find_spec(name)])",
    )  # fmt: skip
    assert looked.returncode == 0, looked.stderr
    assert looked.stdout.split(maxsplit=1)[1].strip() == "[]"
    assert int(looked.stdout.split()[0]) >= 1
    assert run(stage, python, "-m", "ops.cli", "init", "--help").returncode == 0
    probe = run(stage, python, "-m", "shared.observability.healthcheck", "1")
    assert probe.returncode == 1
    assert "no answer" in probe.stderr


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        ("COPY shraed shared", "shraed is not in the build context"),
        ("COPY .env.example .env", "not in the build context"),
        ("COPY --from=bulider /app /app", "bulider"),
        ("RUN test -f pyproject.toml", "non-zero exit status"),
    ],
)
def test_invalid_build_step_is_found(tmp_path: Path, step: str, complaint: str) -> None:
    dockerfile = tmp_path / "Dockerfile.broken"
    dockerfile.write_text(f"FROM debian:12-slim\nWORKDIR /app\nCOPY shared shared\nRUN test -d shared\n{step}\n")

    with pytest.raises(BuildFailed, match=rf"^Dockerfile\.broken:5: .*{complaint}"):
        Build(ROOT, tmp_path / "stages").run(dockerfile)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", SERVICES)
def test_docker_builds_and_runs_an_image(name: str) -> None:
    client = docker_engine()
    if client is None:
        pytest.skip("no Docker engine answers; the steps were run in a plain directory")
    image, _ = client.images.build(path=str(ROOT), dockerfile=name, rm=True)
    answer = client.containers.run(
        image, ["imagepipe", "init", "--help"], remove=True, read_only=True, tmpfs={"/tmp": ""}, cap_drop=["ALL"]
    )
    assert b"init" in answer
