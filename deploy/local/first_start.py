"""The first `make up` and `make setup`: install uv and the Python packages, and download the engines' jars beside them.

`PYTHON -m deploy.local.first_start UV_VERSION` installs what runs the stack; `--all` adds the packages that develop and
test it and leaves the jars to the stack that needs them. Standard library only, because nothing is installed yet.
"""

import argparse
import contextlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.cache import check_disk, user_cache
from deploy.local.downloads import Downloads, finished_step
from deploy.local.engines import jars
from deploy.local.errors import Interrupted, StackError, disk_errors

PROJECT = Path(__file__).parents[2]
UV_DIRECTORY = PROJECT / ".uv"
UV = UV_DIRECTORY / "bin" / "uv"
PACKAGES = "Python packages"
PACKAGES_DISK = 1_000_000_000
"""Bytes that the packages take with their bytecode, once in uv's cache and once in .venv: 0.9 GB with `--all`."""
LAST_LINES = 6
DOWNLOADING = re.compile(r"^Downloading (\S+) \(([\d.]+)([KMG])iB\)")
DOWNLOADED = re.compile(r"^Downloaded (\S+)")
DIE_WITH_PARENT = PROJECT / "deploy" / "local" / "supervision" / "die_with_parent.py"
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}

CAUSES = (
    (
        r"No space left on device|Disk quota exceeded",
        "The disk is full: the first start needs 1 GB here and 0.3 GB for downloads. Make room and try again.",
    ),
    (
        r"Permission denied|Read-only file system",
        "A file could not be written: make this directory and the caches writable, and try again.",
    ),
    (
        r"source\s+distribution\s+or\s+wheel\s+for\s+the\s+current\s+platform|no wheels? with a matching",
        f"A package has no wheel for this platform ({platform.system()} {platform.machine()}): use Linux (x86-64 or "
        "arm64) or macOS, or run the services with your own engines on such a machine (docs/deploy.md).",
    ),
    (
        r"error sending request|[Ff]ailed to fetch|Failed to download|Connection|connect|tunnel|dns|resolve host|"
        r"Temporary failure|No matching distribution|timed? ?out",
        "The package index cannot be reached: check the network, HTTPS_PROXY and the index settings of pip and uv "
        "(PIP_INDEX_URL, UV_DEFAULT_INDEX), and try again.",
    ),
)
"""What the output of pip and uv means, and what to do. The first pattern that is found decides."""


def explain(output: str) -> str:
    """The cause of a failed installation and what to do, from what pip or uv printed."""
    for pattern, sentence in CAUSES:
        if re.search(pattern, output):
            return sentence
    return "The Python packages could not be installed:"


@dataclass
class Programs:
    """Programs that run within a block. An error in the block, such as Ctrl-C, ends them."""

    stop: threading.Event = field(default_factory=threading.Event)
    running: set["subprocess.Popen[str]"] = field(default_factory=set)

    def run(self, argv: Sequence[str], each_line: Callable[[str], None] = lambda _line: None) -> None:
        """Run a program to its end. Raises StackError with the cause and the end of its output, or Interrupted."""
        lines: list[str] = []
        # A session of its own: Ctrl-C reaches this process alone, which ends the program and reports one sentence.
        # After kill -9 of this process the program must not write into the directories of the next start.
        tied = [sys.executable, "-I", "-S", str(DIE_WITH_PARENT), str(os.getpid()), *argv]
        with subprocess.Popen(
            tied, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        ) as program:  # fmt: skip
            self.running.add(program)
            if self.stop.is_set():
                program.terminate()
            for line in program.stdout or ():
                lines.append(line.rstrip())
                each_line(line.strip())
        self.running.discard(program)
        if self.stop.is_set():
            raise Interrupted("Interrupted.")
        if program.returncode != 0:
            output = "\n".join(lines)
            raise StackError("\n".join([explain(output), *(f"  {line}" for line in lines[-LAST_LINES:])]))

    def __enter__(self) -> None:
        """Nothing runs yet."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """After an error, end what runs."""
        if kind is None:
            return
        self.stop.set()
        for program in tuple(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGTERM)


def install_uv(version: str, programs: Programs) -> None:
    """Install this version of uv unless it is there. Raises StackError."""
    wanted = UV_DIRECTORY / f"version-{version}"
    if wanted.exists() and UV.exists():
        return
    shutil.rmtree(UV_DIRECTORY, ignore_errors=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "2"]
    if importlib.util.find_spec("pip"):
        # Without a virtual environment of its own, which takes four seconds to make.
        programs.run([sys.executable, *install, "--target", str(UV_DIRECTORY), f"uv=={version}"])
    else:
        _make_environment()
        programs.run([str(UV_DIRECTORY / "bin" / "python"), *install, f"uv=={version}"])
    wanted.touch()


def _make_environment() -> None:
    made = subprocess.run([sys.executable, "-m", "venv", str(UV_DIRECTORY)], capture_output=True, check=False)
    if made.returncode != 0:
        shutil.rmtree(UV_DIRECTORY, ignore_errors=True)
        raise StackError(
            "This Python has neither pip nor a working venv module: on Debian and Ubuntu, `apt install python3-venv`."
        )


def sync(everything: bool, downloads: Downloads, programs: Programs) -> None:
    """Install the locked packages into .venv. Raises StackError."""
    sizes: dict[str, int] = {}

    def follow(line: str) -> None:
        if found := DOWNLOADING.match(line):
            sizes[found[1]] = int(float(found[2]) * UNITS[found[3]])
            downloads.expect(PACKAGES, sizes[found[1]])
        elif (found := DOWNLOADED.match(line)) and found[1] in sizes:
            downloads.receive(PACKAGES, sizes[found[1]])
        elif line.startswith("Prepared"):
            downloads.doing(PACKAGES, "installing")

    # Bytecode is compiled now, beside the downloads; otherwise each process of the first start compiles the same files.
    argv = [str(UV), "sync", "--locked", "--python", sys.executable, "--no-python-downloads", "--compile-bytecode"]
    programs.run([*argv, *([] if everything else ["--no-group", "dev", "--inexact"])], follow)


def engines_to_download() -> tuple[str, ...]:
    """The engines whose jars the next start needs: those that the environment does not name an address of."""
    return tuple(engine for engine, variable in jars.ENDPOINTS.items() if not os.environ.get(variable))


def install(version: str, everything: bool, downloads: Downloads, programs: Programs) -> None:
    """Do all of it side by side. Raises StackError at the first failure, after the other downloads have ended."""
    check_disk(PROJECT, PACKAGES_DISK)
    cache = user_cache()

    def packages() -> None:
        downloads.start(PACKAGES)
        install_uv(version, programs)
        sync(everything, downloads, programs)
        downloads.finish(PACKAGES)

    # `programs` is entered last: at Ctrl-C it ends what runs before the pool waits for it.
    with downloads.shown(), ThreadPoolExecutor(3, thread_name_prefix="first-start") as pool, programs:
        work: list[Future[object]] = [pool.submit(packages)]
        if not everything:
            work += [pool.submit(jars.fetch, each, cache, downloads, programs.stop) for each in engines_to_download()]
        done, _ = wait(work, return_when=FIRST_EXCEPTION)
        failed = [error for each in done if (error := each.exception())]
        if failed:
            raise next((error for error in failed if not isinstance(error, Interrupted)), failed[0])


def main(argv: list[str] | None = None) -> int:
    """Run it and print what was done. Returns the exit code: 0, or 1 after a sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.first_start", description=__doc__)
    parser.add_argument("uv_version")
    parser.add_argument("--all", action="store_true", help="with the packages that develop and test it")
    arguments = parser.parse_args(argv)
    # `make` passes SIGTERM on; it ends the downloads as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    downloads, begin = Downloads(), time.monotonic()
    try:
        with disk_errors(PROJECT):
            install(arguments.uv_version, arguments.all, downloads, Programs())
    except KeyboardInterrupt:
        print("✗ Interrupted. Finished downloads are kept: the same command goes on.", file=sys.stderr)
        return 1
    except StackError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - begin
    if downloads.received:
        print(finished_step(f"Downloaded {downloads.received / 1e6:.0f} MB", downloads.seconds))
        seconds -= downloads.seconds
    print(finished_step("Installed the Python packages", seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
