"""Runs the steps of a Dockerfile in a plain directory, without Docker, so that a wrong path or a missing file shows.

`python -m deploy.check_dockerfiles Dockerfile.gateway Dockerfile.processor` takes ENV, WORKDIR, COPY and RUN as they
stand, one directory a stage in place of the base image, with a virtual environment where the image has its Python.
What it cannot show: the base image itself, absolute paths in RUN, and what USER may not do.
"""

import argparse
import io
import json
import os
import shlex
import shutil
import string
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parent.parent
WITHOUT_EFFECT_HERE = {"USER", "EXPOSE", "HEALTHCHECK", "VOLUME"}
IMAGE_HYGIENE = {"UV_NO_CACHE", "UV_COMPILE_BYTECODE", "UV_LINK_MODE", "PYTHONDONTWRITEBYTECODE"}
"""Variables that make an image small or its start fast, and would only make this check slow: left out."""
PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "PIP_CERT", "PIP_INDEX_URL", "UV_DEFAULT_INDEX")


class BuildFailed(Exception):  # noqa: N818 - what it is, in a builder's words
    """A step could not be carried out; the message names it."""


@dataclass
class Stage:
    """One stage of a build as a directory. `env` holds paths of this machine where the image has its own."""

    name: str
    root: Path
    env: dict[str, str] = field(default_factory=dict)
    workdir: Path = Path("/")
    command: list[str] = field(default_factory=list)

    def inside(self, path: str) -> Path:
        """Where a path of the image lies here."""
        return self.root / str(self.workdir / path).lstrip("/")


class Build:
    """Stages under one directory; a stage that two Dockerfiles have in common is built once."""

    def __init__(self, context: Path, directory: Path) -> None:
        self._context = context
        self._directory = directory
        self._allowed = build_context(context)
        self._built: dict[tuple[str, ...], Stage] = {}
        self._stages: dict[str, Stage] = {}
        self._current: Stage | None = None

    def run(self, dockerfile: Path) -> Stage:
        """Carry out all steps; returns the last stage. Raises BuildFailed."""
        self._stages = {}
        for steps in _stages(dockerfile):
            key = tuple(step["content"] for step in steps)
            if key in self._built:
                self._current = self._built[key]
                self._stages[_stage_name(steps)] = self._current
                continue
            for step in steps:
                try:
                    self._step(step["instruction"], step["value"])
                except (OSError, subprocess.CalledProcessError, KeyError) as error:
                    where = f"{dockerfile.name}:{step['startline'] + 1}: {step['content'].strip()}"
                    raise BuildFailed(f"{where}: {error}") from error
            self._built[key] = self._stage
        return self._stage

    @property
    def _stage(self) -> Stage:
        if self._current is None:
            raise KeyError("no FROM yet")
        return self._current

    def _step(self, instruction: str, value: str) -> None:
        match instruction:
            case "FROM":
                self._from(_name_in(value), with_python=value.startswith("python:"))
            case "ENV":
                for assignment in shlex.split(value):
                    name, _, text = assignment.partition("=")
                    if name not in IMAGE_HYGIENE:
                        self._stage.env[name] = self._expanded(name, text)
            case "WORKDIR":
                self._stage.workdir = self._stage.workdir / value
                self._stage.inside(".").mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(shlex.split(value))
            case "RUN":
                subprocess.run(
                    ["/bin/sh", "-c", value], cwd=self._stage.inside("."), env=self._environment(), check=True
                )
            case "CMD":
                self._stage.command = json.loads(value)
            case _ if instruction not in WITHOUT_EFFECT_HERE:
                raise KeyError(f"{instruction} is not known to this check")

    def _from(self, name: str, with_python: bool) -> None:
        root = self._directory / f"{len(self._built)}-{name}"
        path = ["/usr/bin", "/bin"]
        if with_python:
            venv.create(root / "usr" / "local", with_pip=True)
            path.insert(0, str(root / "usr" / "local" / "bin"))
        self._current = self._stages[name] = Stage(name, root, {"PATH": ":".join(path)})

    def _expanded(self, name: str, text: str) -> str:
        if name == "PATH":
            # What the image adds to its PATH lies in the stage's directory here.
            text = ":".join(str(self._stage.inside(part)) if part.startswith("/") else part for part in text.split(":"))
        return string.Template(text).safe_substitute(self._stage.env)

    def _environment(self) -> dict[str, str]:
        # Nothing else of the caller's comes in; uv's cache in HOME and a proxy make no difference to the result.
        passed = {name: os.environ[name] for name in ("HOME", *PROXY) if name in os.environ}
        return passed | self._stage.env

    def _copy(self, words: Sequence[str]) -> None:
        options = [word for word in words if word.startswith("--")]
        *sources, target = [word for word in words if not word.startswith("--")]
        if options:
            stage = self._stages[options[0].removeprefix("--from=")]
            for source in sources:
                _copy_tree(stage.inside(source), self._target(target, source))
            return
        for source in sources:
            files = [name for name in self._allowed if name == source or name.startswith(f"{source}/")]
            if not files:
                raise FileNotFoundError(f"{source} is not in the build context (see .dockerignore)")
            place = self._target(target, source)
            for name in files:
                to = place / Path(name).relative_to(source) if name != source else place
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self._context / name, to)

    def _target(self, target: str, source: str) -> Path:
        place = self._stage.inside(target)
        return place / Path(source).name if target.endswith("/") else place


def _stages(dockerfile: Path) -> list[list[dict[str, Any]]]:
    stages: list[list[dict[str, Any]]] = []
    for step in DockerfileParser(fileobj=io.BytesIO(dockerfile.read_bytes())).structure:
        if step["instruction"] == "FROM":
            stages.append([])
        if step["instruction"] != "COMMENT":
            stages[-1].append(step)
    return stages


def _stage_name(steps: Sequence[dict[str, Any]]) -> str:
    return _name_in(steps[0]["value"])


def _name_in(from_: str) -> str:
    """Name that FROM gives its stage; the last stage needs none."""
    _, _, name = from_.partition(" AS ")
    return name or "final"


def build_context(context: Path) -> list[str]:
    """Files that Docker would be sent, relative to the context: what .dockerignore leaves of it."""
    patterns = [line.strip() for line in (context / ".dockerignore").read_text().splitlines()]
    kept = exclude_paths(str(context), [line for line in patterns if line and not line.startswith("#")])
    return sorted(name for name in kept if (context / name).is_file())


def _copy_tree(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def main() -> None:
    """Build each Dockerfile. Exit code 1 where a step fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dockerfiles", nargs="+", type=Path)
    with tempfile.TemporaryDirectory(prefix="imagepipe-image-") as directory:
        build = Build(ROOT, Path(directory))
        for dockerfile in parser.parse_args().dockerfiles:
            try:
                stage = build.run(dockerfile)
            except BuildFailed as error:
                sys.exit(str(error))
            print(f"{dockerfile}: every step was carried out; it would run {shlex.join(stage.command)}")


if __name__ == "__main__":
    main()
