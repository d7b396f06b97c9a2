"""Pieces of the local stack that need no engine: ports, state, back-off, lock files, configuration."""

import asyncio
import json
import os
import shlex
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from deploy.images.minio import services_user
from deploy.local import ports, provisioning, services, stack
from deploy.local.cache import Cache, check_disk
from deploy.local.engines import cassandra, jars, kafka, s3
from deploy.local.errors import StackError
from deploy.local.reporting import Reporter
from deploy.local.state import Root, State
from deploy.local.supervision import process
from deploy.local.supervision import retry as backoff
from deploy.local.supervision.logs import ALARMING, LogFile, pump, tail
from deploy.local.topology import Member
from shared.errors import Unavailable
from shared.settings import Settings
from tests.support.waiting import wait_for


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path / "stack")
    made.create()
    return made


def with_ports() -> State:
    names = [*kafka.PORTS, *cassandra.PORTS, *s3.PORTS, *services.PORTS, "gateway"]
    return State(ports={name: 20_000 + index for index, name in enumerate(names)})


def test_backoff_doubles_to_a_limit_and_starts_over_after_a_good_run() -> None:
    waits = backoff.Backoff()
    assert [waits.next_delay(1) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert waits.next_delay(backoff.RAN_WELL) == 0.5


def test_kept_port_is_used_again_and_a_taken_one_replaced() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert not ports.is_free(taken)
        free = ports.choose([])
        chosen = ports.assign(["a", "b", "c"], {"a": free, "b": taken})
    assert chosen["a"] == free
    assert taken not in chosen.values()
    assert len(set(chosen.values())) == 3


def test_taken_gateway_port_names_port_and_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(StackError, match=f"Port {taken} is taken by .*pid {os.getpid()}.*--gateway-port N"):
            ports.gateway_port(taken, None, 8000, [])
        assert ports.gateway_port(0, taken, 8000, []) != taken
    assert ports.gateway_port(None, taken, 8000, []) == taken


def test_state_is_private_and_comes_back_as_it_was(root: Root) -> None:
    state = with_ports()
    root.save(state)
    assert stat.S_IMODE(root.state_file.stat().st_mode) == 0o600
    assert root.load() == state
    assert [path.name for path in root.path.iterdir() if path.name.startswith(".state")] == []


def test_spoilt_state_says_what_to_do(root: Root) -> None:
    root.state_file.write_text("{")
    with pytest.raises(StackError, match="down --delete-data"):
        root.load()


def test_lock_is_held_by_one_and_freed_with_its_file(root: Root) -> None:
    assert not root.is_supervised()
    lock = root.try_lock()
    assert lock is not None
    assert root.is_supervised()
    assert root.try_lock() is None
    lock.close()
    assert not root.is_supervised()


def test_delete_keeps_what_is_not_the_stacks(root: Root) -> None:
    root.save(State())
    (root.path / "mine.txt").write_text("kept")
    root.delete()
    assert [path.name for path in root.path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("value", ["plain-1.2:3", "with space", "quo'te", 'dou"ble $HOME', "", '{"a": 1}'])
def test_env_file_gives_a_shell_the_same_values(root: Root, value: str) -> None:
    root.write_env({"VALUE": value})
    command = f'set -a; . {shlex.quote(str(root.env_file))}; printf %s "$VALUE"'
    assert subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True).stdout == value


def test_services_get_this_stacks_engines_and_the_users_other_settings() -> None:
    state = with_ports()
    values = services.environment(state, {"RENDER_WORKERS": "3", "GATEWAY_PORT": "1", "HOME": "/x"})
    settings = services.settings_from(values)
    assert settings.render_workers == 3
    assert settings.gateway_port == state.ports["gateway"]
    assert settings.s3_access_key_id == state.secrets.s3_services_key
    assert settings.public_base_url == f"http://127.0.0.1:{state.ports['gateway']}"
    assert "HOME" not in values


def test_given_endpoints_win_and_their_engine_is_not_started(root: Root) -> None:
    given = {"S3_ENDPOINT_URL": "http://s3:9000", "S3_ACCESS_KEY_ID": "k", "KAFKA_BOOTSTRAP_SERVERS": "k:9092"}
    options = stack.Options(root, None, True, given)
    assert options.engines == ("cassandra",)
    values = services.environment(with_ports(), given)
    assert (values["S3_ENDPOINT_URL"], values["S3_ACCESS_KEY_ID"]) == ("http://s3:9000", "k")
    assert values["KAFKA_BOOTSTRAP_SERVERS"] == "k:9092"


@pytest.mark.parametrize("engine", sorted(jars.SOURCES))
def test_lock_file_holds_the_versions_named_in_the_source(engine: str) -> None:
    locked = jars.read_lock(engine)
    assert set(jars.SOURCES[engine]) <= {jar.coordinate for jar in locked}
    assert len({jar.name for jar in locked}) == len(locked)
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in locked)


def test_kafka_has_one_version_of_its_clients() -> None:
    # Resolved together with the log binding, jgo once picked kafka-clients 3.9.1 for a 4.2 broker.
    clients = [jar.coordinate for jar in jars.read_lock("kafka") if ":kafka-clients:" in jar.coordinate]
    assert clients == ["org.apache.kafka:kafka-clients:4.2.0"]


def test_kafka_never_creates_topics_by_itself(tmp_path: Path) -> None:
    text = kafka.render_properties(with_ports(), Member(kafka.NAME, 1, 1), tmp_path)
    assert "auto.create.topics.enable=false\n" in text
    assert "listeners=PLAINTEXT://127.0.0.1:20000,CONTROLLER://127.0.0.1:20001\n" in text


def test_cassandra_syncs_before_it_acknowledges(tmp_path: Path) -> None:
    settings = cassandra.configuration(with_ports(), Member(cassandra.NAME, 1, 1), tmp_path)
    assert settings["commitlog_sync"] == "batch"
    assert settings["listen_address"] == "127.0.0.1"


def test_services_policy_is_about_one_bucket_only() -> None:
    policy = json.loads(json.dumps(services_user.policy("pics")))
    resources = {resource for statement in policy["Statement"] for resource in statement["Resource"]}
    actions = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert resources == {"arn:aws:s3:::pics", "arn:aws:s3:::pics/*"}
    assert not any("*" in action for action in actions)


def test_cache_builds_once_and_forgets_interrupted_builds(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    built: list[Path] = []

    def fail(draft: Path) -> None:
        (draft / "half").write_text("x")
        raise StackError("cut")

    def build(draft: Path) -> None:
        built.append(draft)
        (draft / "whole").write_text("x")

    with pytest.raises(StackError, match="cut"):
        cache.make("thing", 1, fail)
    (tmp_path / "thing.draft-killed").mkdir()
    threads = [threading.Thread(target=cache.make, args=("thing", 1, build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thing", "thing.lock"]
    assert [path.name for path in (tmp_path / "thing").iterdir()] == ["whole"]


def test_full_disk_and_small_memory_are_said(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="make room"):
        check_disk(tmp_path, 10**18)
    with pytest.raises(StackError, match="close other programs"):
        stack.check_memory(10**18)


def test_process_reference_is_not_fooled_by_a_reused_pid() -> None:
    me = process.reference(os.getpid())
    assert me is not None
    assert process.find(me) is not None
    assert process.find(me.model_copy(update={"created": me.created - 60})) is None
    assert process.find(None) is None


def test_leftovers_are_found_by_stack_and_ended() -> None:
    env = {**os.environ, process.STACK_ID: "test-leftovers"}
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"], env=env)
    try:
        found = process.leftovers("test-leftovers")
        assert [each.pid for each in found] == [child.pid]
        assert process.leftovers("another") == []
        process.end(found, grace=5)
        assert child.wait(5) == -15
    finally:
        child.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_child_dies_with_its_parent(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    child = [sys.executable, "-I", "-S", str(process.CHILD)]
    script = (
        "import os, subprocess, time\n"
        f"p = subprocess.Popen([*{child!r}, str(os.getpid()), 'sleep', '30'])\n"
        f"open({str(told)!r}, 'w').write(str(p.pid)); time.sleep(30)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        pid = wait_for(lambda: int(told.read_text()) if told.exists() and told.read_text() else None, 10, "a pid")
        grandchild = psutil.Process(pid)
        wait_for(lambda: True if grandchild.name() == "sleep" else None, 10, "the child to become `sleep`")
    finally:
        parent.kill()
        parent.wait()

    def ended() -> bool | None:
        try:
            return True if grandchild.status() == psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return True

    assert wait_for(ended, 5, "the child to end with its parent")


async def test_pump_splits_lines_and_bounds_their_length() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"one\r\ntw" + b"o\n" + b"x" * 200_000 + b"\nlast")
    stream.feed_eof()
    lines: list[str] = []
    await pump(stream, lines.append)
    assert (lines[0], lines[1], lines[-1]) == ("one", "two", "last")
    assert max(map(len, lines)) <= 128 * 1024
    assert sum(map(len, lines)) == 200_010


def test_log_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.local.supervision.logs.LIMIT", 1000)
    log = LogFile(tmp_path / "part.log")
    for number in range(500):
        log.write(f"line {number} with 100% of it")
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3000
    assert tail(tmp_path / "part.log", 1) == ["line 499 with 100% of it"]
    assert tail(tmp_path / "none.log", 5) == []


@pytest.mark.parametrize(
    ("line", "shown"),
    [("12:00:01 INFO  started", False), ("12:00:01 WARN  slow", True), ("java.io.IOException: no", True)],
)
def test_quiet_parts_show_what_is_alarming(line: str, shown: bool) -> None:
    assert bool(ALARMING.search(line)) is shown


def fake_go(directory: Path, script: str) -> Path:
    program = directory / "go" / "bin" / "go"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    return directory / "go"


def test_minio_is_built_once_without_leaving_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As Go does it: the module cache is read-only, and the program lands in GOBIN.
    script = 'mkdir -p "$GOPATH/m" && chmod 500 "$GOPATH/m" && echo "$@" && echo built > "$GOBIN/minio"'
    go = fake_go(tmp_path, script)
    monkeypatch.setattr(s3, "_go_root", lambda: go)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    cache = Cache(tmp_path / "cache")
    work = Reporter(Console(quiet=True))
    with work.one_time_work() as progress:
        program = s3.fetch(cache, progress, threading.Event())
    assert program.read_text() == "built\n"
    assert [path.name for path in program.parent.iterdir()] == ["minio"]


def test_failed_build_shows_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = fake_go(tmp_path, "echo downloading; echo no such host; exit 1")
    monkeypatch.setattr(s3, "_go_root", lambda: go)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with (
        Reporter(Console(quiet=True)).one_time_work() as progress,
        pytest.raises(StackError, match=r"GOPROXY[\s\S]*no such host"),
    ):
        s3.fetch(Cache(tmp_path / "cache"), progress, threading.Event())
    assert [path.name for path in (tmp_path / "cache").iterdir() if "draft" in path.name] == []


async def test_a_node_that_times_out_on_its_first_writes_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception | None] = [Unavailable("cassandra", "WriteTimeout"), None]

    def apply_schema(_settings: Settings) -> None:
        if error := answers.pop(0):
            raise error

    async def no_pause(_seconds: float) -> None:
        return None

    monkeypatch.setattr("shared.cassandra.schema.apply_schema", apply_schema)
    monkeypatch.setattr("deploy.local.provisioning.asyncio.sleep", no_pause)
    await provisioning._apply_schema(Settings(_env_file=None))
    assert answers == []

    answers.append(Unavailable("cassandra", "gone"))
    monkeypatch.setattr(provisioning, "SCHEMA_PATIENCE", -1.0)
    with pytest.raises(Unavailable, match="gone"):
        await provisioning._apply_schema(Settings(_env_file=None))
