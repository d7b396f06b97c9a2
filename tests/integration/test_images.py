"""The images: built by Docker where an engine answers, else their steps in a plain directory; then looked into."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

from deploy.check_dockerfiles import Build, BuildFailed, Stage

ROOT = Path(__file__).parent.parent.parent
SERVICES = {"Dockerfile.gateway": "gateway", "Dockerfile.processor": "processor"}
NOBODY = 10001


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
    # The services' user must be able to look into it.
    for path in (directory, *directory.parents[:2]):
        path.chmod(0o755)
    build = Build(ROOT, directory)
    yield {name: build.run(ROOT / name) for name in SERVICES}
    subprocess.run(["rm", "-rf", directory], check=True)


def run(stage: Stage, *argv: str, root: Path) -> subprocess.CompletedProcess[str]:
    """As the container would: its own variables only, another user, and nothing to write on but /tmp."""
    user = NOBODY if os.getuid() == 0 else None
    return subprocess.run(
        argv, env=stage.env, cwd=root, user=user, group=user, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SERVICES)
def test_an_image_holds_what_its_command_needs_and_no_tools(stages: dict[str, Stage], name: str) -> None:
    stage = stages[name]
    assert stage.command == ["python", "-m", SERVICES[name]]
    python = str(stage.inside("/app/.venv/bin/python"))
    root = stage.inside(".")

    looked = run(
        stage, python, "-c",
        "import gateway.__main__, processor.__main__, indexer.__main__, importlib.util as u; "
        "from shared.cassandra import MIGRATIONS; assert 'site-packages' in str(MIGRATIONS); "
        "print(len(list(MIGRATIONS.glob('*.cql'))), "
        "[name for name in ('pytest', 'mypy', 'uv', 'pip', 'jgo', 'go', 'minio') if u.find_spec(name)])",
        root=root,
    )  # fmt: skip
    assert looked.returncode == 0, looked.stderr
    assert looked.stdout.split(maxsplit=1)[1].strip() == "[]"
    assert int(looked.stdout.split()[0]) >= 1
    assert run(stage, python, "-m", "ops.cli", "init", "--help", root=root).returncode == 0
    probe = run(stage, python, "-m", "shared.healthcheck", "1", root=root)
    assert probe.returncode == 1
    assert "no answer" in probe.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("COPY shared shared", "COPY shraed shared"), ("COPY pyproject.toml uv.lock README.md ./", "COPY uv.lock ./")],
)
def test_a_wrong_path_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    text = (ROOT / "Dockerfile.gateway").read_text()
    assert right in text
    # Without the steps that take long: the mistake shows before the last of them.
    broken = "\n".join(line for line in text.replace(right, wrong).splitlines() if "--no-install-project" not in line)
    dockerfile = tmp_path / "Dockerfile.broken"
    dockerfile.write_text(broken)

    with pytest.raises(BuildFailed, match=r"Dockerfile\.broken:\d+"):
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
