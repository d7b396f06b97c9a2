"""The local stack's S3 server alone: what is closed, what is synced, what the lifecycle deletes, and how it refuses."""

import asyncio
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from deploy.local.engines import s3
from deploy.seaweedfs import command_line
from deploy.seaweedfs.configuration import Keys, write
from shared.errors import PreconditionFailed, Unavailable
from shared.s3.store import S3Store, s3_client
from tests.support.engines.seaweedfs import BUCKET, Server, running_server
from tests.support.waiting import Stopwatch, wait_for

ROOT = Path(__file__).parents[2]
LARGE = os.urandom(512 * 1024)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("s3") / "root") as found:
        yield found


def put_forged(server: Server, key: str, *, in_query: bool, key_id: str | None = None) -> int:
    """Status of a put with the id of an access key and no valid signature, its trailer unsigned (CVE-2026-40344)."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    credential = f"{key_id or server.services.s3_access_key_id}/{now[:8]}/us-east-1/s3/aws4_request"
    headers = {
        "x-amz-date": now,
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "1",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    query = {}
    if in_query:
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": credential, "X-Amz-Date": now,
            "X-Amz-Expires": "600", "X-Amz-SignedHeaders": "host", "X-Amz-Signature": "0" * 64,
        }  # fmt: skip
    else:
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
        )
    body = b"1\r\nx\r\n0\r\nx-amz-checksum-crc32:jNW7bQ==\r\n\r\n"
    url = f"{server.services.s3_endpoint_url}/{BUCKET}/{key}"
    return httpx.put(url, params=query, content=body, headers=headers, trust_env=False).status_code


@pytest.mark.parametrize("in_query", [True, False], ids=["query", "header"])
@pytest.mark.parametrize("user", ["services", "root"])
async def test_an_unsigned_trailer_opens_nothing(server: Server, user: str, in_query: bool) -> None:
    settings = server.services if user == "services" else server.admin
    assert put_forged(server, "images/forged", in_query=in_query, key_id=settings.s3_access_key_id) == 403
    store = S3Store.from_settings(server.services)
    assert list(await store.list("images/forged")) == []
    await store.close()


def test_the_inside_is_closed_by_http(server: Server) -> None:
    client = s3_client(server.services)
    client.put_object(Bucket=BUCKET, Key="inside", Body=b"x")
    client.close()
    ports = server.state.ports
    for method in ("GET", "PUT", "DELETE"):
        url = f"http://127.0.0.1:{ports['s3_filer']}/buckets/{BUCKET}/inside"
        assert httpx.request(method, url, trust_env=False).status_code == 401
    assert httpx.get(f"http://127.0.0.1:{ports['s3_volume']}/1,0123456789", trust_env=False).status_code == 401


def test_each_put_is_synced(server: Server) -> None:
    assert re.search(command_line.SYNC_IS_SET, server.shell("fs.configure"))


def test_everything_listens_on_the_loopback_interface_only(server: Server) -> None:
    sockets = psutil.Process(server.pid).net_connections()
    listening = {socket.laddr.port for socket in sockets if socket.status == psutil.CONN_LISTEN}
    assert listening >= {port for name, port in server.state.ports.items() if name.startswith("s3")}
    addresses = {address.ip for socket in sockets for address in (socket.laddr, socket.raddr) if address}
    assert addresses == {"127.0.0.1"}


def test_data_are_for_the_owner_only(server: Server) -> None:
    folder = server.root.data / "s3"
    # The server makes one kind of file for all to read, which holds a volume's layout; the folder keeps them out.
    files = [path for path in (folder, *folder.rglob("*")) if path.suffix != ".vif"]
    assert {stat.S_IMODE(path.lstat().st_mode) & 0o077 for path in files} == {0}
    assert {path.name for path in folder.glob("*.sock")} == {"filer.sock", "s3.sock"}
    shared = Path("/tmp").glob("seaweedfs-*-grpc-*.sock")
    ours = [path for path in shared if int(path.stem.rpartition("-")[2]) in server.state.ports.values()]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in ours} <= {0}


def test_no_secret_is_in_the_arguments(server: Server) -> None:
    words = " ".join(psutil.Process(server.pid).cmdline())
    assert "mini" in words
    assert not any(secret in words for secret in server.state.secrets.model_dump().values())


def due(prefix: str, due_on: datetime) -> Any:
    return {"ID": prefix, "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Date": due_on}}


def young(prefix: str, days: int) -> Any:
    return {"ID": f"{prefix}-young", "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}


async def test_the_pass_deletes_what_is_due_and_nothing_else(server: Server) -> None:
    """A date in the past stands for the days: a test cannot make an object old."""
    store, client, bucket = S3Store.from_settings(server.admin), s3_client(server.admin), f"due-{uuid4().hex[:8]}"
    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    client.create_bucket(Bucket=bucket)
    keys = [f"{prefix}/{name}" for prefix in ("images", "incoming", "tombstones") for name in ("a", "b/c")]
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
        await store.put(key, b"x", "text/plain")
    rules = [due("incoming/", yesterday), due("tombstones/", yesterday), young("images/", 1)]
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})

    printed = await asyncio.to_thread(run_lifecycle_once, server)

    assert "cursors checkpointed" in printed
    left = [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert left == ["images/a", "images/b/c"]
    # By the bucket's own rules, in days, all are young.
    kept = {info.key for prefix in ("images/", "incoming/", "tombstones/") for info in await store.list(prefix)}
    assert kept >= set(keys)
    await store.close()
    client.close()


def run_lifecycle_once(server: Server) -> str:
    """What the stack's part prints in its first pass."""
    part = s3.lifecycle_part(server.root, server.state, server.program, {"PATH": "/usr/bin:/bin"})
    log = server.root.logs / "lifecycle.log"
    with log.open("w") as output:
        process = subprocess.Popen(part.argv, env=dict(part.env), stdout=output, start_new_session=True)
    try:
        wait_for(lambda: "checkpointed" in log.read_text() or process.poll() is not None or None, 60, "the pass to end")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    return log.read_text()


def test_a_pass_that_does_not_end_well_ends_the_part(server: Server) -> None:
    """So that its supervisor starts it again."""
    argv = ("sh", "-c", command_line.daily(), "s3.no.such.command", *s3.lifecycle_part(
        server.root, server.state, server.program, {}).argv[8:])  # fmt: skip
    folder = server.root.data / "s3"
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "unknown command" in done.stdout) == (1, True), done.stdout


async def test_a_later_writer_loses_at_once(server: Server) -> None:
    """Only writers that race wait for each other; what is there already is refused in a moment."""
    store = S3Store.from_settings(server.services)
    await store.put("written/once", b"1", "text/plain", if_absent=True)
    seconds = []
    for _ in range(10):
        watch = Stopwatch()
        with pytest.raises(PreconditionFailed):
            await store.put("written/once", b"2", "text/plain", if_absent=True)
        seconds.append(watch.seconds())
    assert sorted(seconds)[5] < 0.5
    assert await store.get("written/once") == b"1"
    await store.close()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a running process are Linux's")
async def test_a_full_store_is_unavailable(server: Server) -> None:
    """A limit on the size of its files stands for the disk: the server can store nothing, and serves what it has."""
    store = S3Store.from_settings(server.services)
    await store.put("small", b"1", "text/plain")
    process = psutil.Process(server.pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (len(LARGE) // 2, before[1]))
    try:
        with pytest.raises(Unavailable, match="InternalError"):
            await store.put("large", LARGE, "text/plain")
        assert await store.get("small") == b"1"
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, before)
    await store.put("large", LARGE, "text/plain")
    assert await store.get("large") == LARGE
    await store.close()


ALONE = ("unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""In a network of its own that has the loopback interface and no route: the kernel counts what wants to leave it."""
INSIDE = """
import re, socket, sys
from contextlib import suppress
from pathlib import Path
from deploy.local.engines import s3
from shared.s3.store import s3_client
from tests.support.engines.seaweedfs import BUCKET, running_server

def wanted_out():
    names, values = re.findall(r"^Ip: (.*)$", Path("/proc/self/net/snmp").read_text(), re.MULTILINE)
    return int(dict(zip(names.split(), values.split()))["OutNoRoutes"])

with running_server(Path(sys.argv[1])) as server:
    client = s3_client(server.services)
    client.put_object(Bucket=BUCKET, Key="a", Body=b"x")
    assert client.get_object(Bucket=BUCKET, Key="a")["Body"].read() == b"x"
    server.shell("s3.lifecycle.run-shard -shards 0-15 -s3 127.0.0.1:%d" % server.state.ports["s3_grpc"])
print("by the server", wanted_out())
with suppress(OSError):
    socket.create_connection(("192.0.2.9", 9), 1)
print("by this test", wanted_out())
"""


@pytest.fixture
def alone() -> tuple[str, ...]:
    if not shutil.which("unshare") or subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine makes no network namespaces")
    return ALONE


def test_in_a_network_of_its_own_nothing_leaves_the_machine(tmp_path: Path, alone: tuple[str, ...]) -> None:
    argv = [*alone, sys.executable, "-c", INSIDE, str(tmp_path / "root")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "by the server 0\nby this test 1\n"), done.stderr


AS_IN_COMPOSE = """
import os, subprocess, sys, time
import httpx, psutil, yaml
from pathlib import Path

services = yaml.safe_load(Path("docker-compose.yml").read_text())["services"]

def argv(name):
    words = services[name].get("entrypoint", ["weed"]) + services[name]["command"]
    return [word.replace("$$", "$") for word in words]

folder, url = sys.argv[1], "http://127.0.0.1:9000/healthz"
server = subprocess.Popen(argv("s3"), cwd=folder, stderr=subprocess.DEVNULL)
for _ in range(300):
    try:
        httpx.get(url, trust_env=False).raise_for_status()
        break
    except httpx.HTTPError:
        time.sleep(0.1)
subprocess.run(argv("s3-sync"), cwd=folder, check=True, timeout=60)
lifecycle = subprocess.Popen(argv("s3-lifecycle"), cwd=folder, stdout=subprocess.PIPE, text=True)
print(next(line for line in lifecycle.stdout if "checkpointed" in line), end="")
sockets = psutil.Process(server.pid).net_connections()
open_to_all = {each.laddr.port for each in sockets if each.status == "LISTEN" and each.laddr.ip != "127.0.0.1"}
print("open to all:", sorted(open_to_all))
lifecycle.kill()
server.kill()
"""


def test_the_commands_of_compose_work_and_only_the_ports_of_s3_are_open(tmp_path: Path, alone: tuple[str, ...]) -> None:
    """With the wheel's program, in a network as empty as a container's, for the ports are the defaults."""
    folder = tmp_path / "seaweedfs"
    write(folder, Keys("root", "root-secret", "services", "services-secret"), BUCKET)
    env = os.environ | {"PATH": f"{s3.find_program().parent}:{os.environ['PATH']}"}
    argv = [*alone, sys.executable, "-c", AS_IN_COMPOSE, str(folder)]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(command_line.SYNC_IS_SET, done.stdout)
    assert "cursors checkpointed" in done.stdout
    # The gRPC port has the address of the HTTP port, and no flag of its own; compose publishes the HTTP port only.
    assert done.stdout.endswith(f"open to all: [9000, {9000 + command_line.GRPC_OFFSET}]\n")
