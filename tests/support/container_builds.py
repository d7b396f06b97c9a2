"""Builds the two images from their Dockerfiles and runs commands in them: with Docker, else with buildah, without root.

No registry of images may be in reach. Then the base image is made from Debian's packages, once per machine: Debian 12
has the Python of the official `python:3.11-slim-bookworm`.
"""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Protocol

import docker
from docker.errors import DockerException

ROOT = Path(__file__).parents[2]
BASE = "docker.io/library/python:3.11-slim-bookworm"
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
BUILD_SECONDS = 1200
InContainer = Callable[[Sequence[str], Mapping[str, str]], list[str]]
"""From a command and its environment to the command line that runs it in a container."""


class BuildError(Exception):
    """The builder refused; the message is the end of what it printed."""


class Builder(Protocol):
    """A tool that builds images and runs commands in them, with the network of this machine."""

    name: str

    def build(self, dockerfile: str) -> str:
        """Build every step of the Dockerfile; returns the image's id. Raises BuildError."""

    def config(self, image: str) -> dict[str, object]:
        """The image's configuration as the OCI specification names it: `Cmd`, `Env`, `User`, `WorkingDir`."""

    def size(self, image: str) -> int:
        """Bytes that the image adds to its base."""

    def container(self, image: str) -> AbstractContextManager[InContainer]:
        """A container of the image, removed at the end; gives the command line of a command in it."""


def run(argv: Sequence[str], **options: object) -> str:
    """Standard output of a command. Raises BuildError."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise BuildError(f"{' '.join(argv[:4])}: {(done.stderr or done.stdout)[-3000:]}")
    return str(done.stdout)


class DockerBuilder:
    """Docker's engine, by its command."""

    name = "docker"

    def build(self, dockerfile: str) -> str:
        return run(["docker", "build", "--quiet", "--file", dockerfile, str(ROOT)], cwd=ROOT).strip()

    def config(self, image: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(run(["docker", "image", "inspect", image]))[0]["Config"]
        return found

    def size(self, image: str) -> int:
        sizes = [json.loads(run(["docker", "image", "inspect", each]))[0]["Size"] for each in (image, BASE)]
        return int(sizes[0]) - int(sizes[1])

    @contextmanager
    def container(self, image: str) -> Iterator[InContainer]:
        # As compose runs them: nothing is written but under /tmp, and no privilege is left.
        closed = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--init"]

        def command(argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
            return ["docker", "run", "--rm", "--network=host", *closed, *_given(env), image, *argv]

        yield command


class BuildahBuilder:
    """buildah, which needs no engine and no privilege that a container lacks: each step runs in a chroot."""

    name = "buildah"
    _isolation = ("--isolation", "chroot", "--network", "host")

    def build(self, dockerfile: str) -> str:
        make_base()
        with tempfile.TemporaryDirectory() as folder:
            # Debian 12's buildah knows neither this word of HEALTHCHECK nor needs it.
            text = re.sub(r" --start-interval=\S+", "", (ROOT / dockerfile).read_text())
            copy = Path(folder) / dockerfile
            copy.write_text(text)
            argv = [
                "buildah",
                "bud",
                *self._isolation,
                "--pull-never",
                "--quiet",
                "--layers=false",
                "--file",
                str(copy),
            ]
            return run([*argv, str(ROOT)], cwd=ROOT).strip().splitlines()[-1]

    def config(self, image: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(run(["buildah", "inspect", "--type", "image", image]))["Docker"]["config"]
        return found

    def size(self, image: str) -> int:
        with self._mounted(image) as whole, self._mounted(BASE) as base:
            return _bytes_of(whole) - _bytes_of(base)

    @contextmanager
    def _mounted(self, image: str) -> Iterator[Path]:
        with self._working_container(image) as container:
            yield Path(run(["buildah", "mount", container]).strip())

    @contextmanager
    def container(self, image: str) -> Iterator[InContainer]:
        with self._working_container(image) as container:

            def command(argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
                return ["buildah", "run", *self._isolation, *_given(env), container, "--", *argv]

            yield command

    @contextmanager
    def _working_container(self, image: str) -> Iterator[str]:
        container = run(["buildah", "from", "--pull-never", image]).strip()
        try:
            yield container
        finally:
            run(["buildah", "rm", container])


def _given(env: Mapping[str, str]) -> list[str]:
    return [f"--env={name}={value}" for name, value in env.items()]


def _bytes_of(folder: Path) -> int:
    return int(run(["du", "--summarize", "--bytes", "--one-file-system", str(folder)]).split()[0])


def make_base() -> None:
    """The base image of buildah: there already, or pulled, or made of Debian's packages."""
    for argv in (["buildah", "inspect", "--type", "image", BASE], ["buildah", "pull", "--quiet", BASE]):
        if subprocess.run(argv, capture_output=True, check=False, timeout=BUILD_SECONDS).returncode == 0:
            return
    if shutil.which("debootstrap") is None:
        raise BuildError(f"{BASE} cannot be pulled, and debootstrap is not installed to make it")
    with tempfile.TemporaryDirectory() as folder:
        system = Path(folder) / "system"
        sites = run(["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]).split()
        run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(system), sites[0]])
        (system / "usr/bin/python").symlink_to("python3")
        for marker in system.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        shutil.rmtree(system / "var/lib/apt/lists", ignore_errors=True)
        _trust_what_this_machine_trusts(system)
        container = run(["buildah", "from", "scratch"]).strip()
        variables = {"UV_SYSTEM_CERTS": "1", "SSL_CERT_FILE": f"/{CERTIFICATES}", "PIP_CERT": f"/{CERTIFICATES}"}
        settings = [f"--env={name}={value}" for name, value in variables.items()]
        run(["buildah", "copy", "--quiet", container, str(system), "/"])
        run(["buildah", "config", *settings, container])
        run(["buildah", "commit", "--quiet", "--rm", container, BASE])


def _trust_what_this_machine_trusts(system: Path) -> None:
    """The certificates and package indexes of this machine, which may be behind a proxy or a mirror."""
    trusted = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if trusted is not None:
        shutil.copy(trusted, system / CERTIFICATES)
    for known in (
        Path("/etc/pip.conf"),
        Path("~/.config/pip/pip.conf").expanduser(),
        Path("~/.pip/pip.conf").expanduser(),
    ):
        if known.is_file():
            shutil.copy(known, system / "etc/pip.conf")


@cache
def builder() -> Builder | None:
    """What builds images on this machine; None where nothing does."""
    try:
        client = docker.from_env(timeout=5)
        client.ping()
        client.close()
    except DockerException:
        able = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("buildah") is not None
        return BuildahBuilder() if able else None
    return DockerBuilder()
