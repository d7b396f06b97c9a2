"""The Dockerfiles as text: what the linter reports, and what they must and must not contain."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCKERFILES = ("Dockerfile.gateway", "Dockerfile.processor")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_reports_nothing(name: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    answer = subprocess.run([hadolint, ROOT / name], capture_output=True, text=True, check=False)
    assert (answer.stdout + answer.stderr, answer.returncode) == ("", 0)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_last_stage_is_unprivileged_has_a_healthcheck_and_installs_nothing(name: str) -> None:
    last = (ROOT / name).read_text().rpartition("\nFROM ")[2]
    assert "\nUSER 10001:10001\n" in last
    assert "\nHEALTHCHECK " in last
    assert "python" in last.split("HEALTHCHECK")[1].split("\nCMD")[0]
    assert not any(tool in last for tool in ("apt-get", "pip install", "uv sync"))


def test_everything_is_installed_from_the_lock_file() -> None:
    for name in DOCKERFILES:
        syncs = [line for line in (ROOT / name).read_text().splitlines() if "uv sync" in line]
        assert syncs
        assert all("--locked" in line for line in syncs)
        assert all("--no-default-groups" in line for line in syncs)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_build_context_holds_no_more_than_is_copied(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    ignore = (ROOT / ".dockerignore").read_text().splitlines()

    assert ignore[1] == "*"
    assert {line[1:] for line in ignore if line.startswith("!")} == {source for sources in copies for source in sources}
