"""A stack with TCP proxies between its services and its engines, and with gateways whose clocks a test can set.

Engine number n listens on 127.0.0.n as always. The services are configured with 127.0.1.n, where a proxy of this
process forwards to the engine. Kafka and Cassandra give their clients the addresses of the brokers and nodes, so they
give those of the proxies. The engines reach each other directly.
"""

import json
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from deploy.local.engines import cassandra, kafka, s3
from deploy.local.ports import assign, check_addresses
from deploy.local.reporting import Reporter
from deploy.local.services import ENDPOINTS, NAMES
from deploy.local.state import Root, State
from deploy.local.supervision.parts import Part
from deploy.local.topology import Member, hosts, kind_of, members
from tests.support.engines.stack import Stack, new_root, stack_at, supervised
from tests.support.processes.tcp_proxy import Proxy

SUPERVISOR = "tests.support.engines.proxied_supervisor"
ENGINES = (kafka.NAME, cassandra.NAME, s3.NAME)
IS_POSSIBLE = sys.platform == "linux" and platform.machine() == "x86_64"
"""Only Linux has all loopback addresses, and the library that fakes the time is built for this processor only."""
REAL_TIME = "+0"
KAFKA_SERVICES = "kafka_services"
"""A broker gives a client the addresses of the listener that the client has asked, so the proxies have a listener of
their own, and each listener needs its own port."""
S3_PROXY = "s3_proxy"
"""SeaweedFS does not start if its port is taken on any address."""
PORTS = (*kafka.PORTS, KAFKA_SERVICES, *cassandra.PORTS, *s3.PORTS, S3_PROXY)


@dataclass(frozen=True)
class ProxiedStack(Stack):
    """`proxies` has one for each engine, by the name of its part."""

    proxies: Mapping[str, Proxy]

    def set_clock(self, gateway: str, offset: str) -> None:
        """Let a gateway's clock differ from the real time by an offset of libfaketime: +5m, -30d, +2y, or +0."""
        _clock(self.root, gateway).write_text(offset)


@contextmanager
def proxied_stack(cluster: bool, extra: Mapping[str, str]) -> Iterator[ProxiedStack]:
    """A stack with engines of its own; endpoints in the environment are ignored. Must run on the main thread."""
    addresses = hosts(cluster)
    check_addresses([*addresses, *map(_proxy_host, addresses)])
    state = State(cluster=cluster, ports=assign(PORTS, {}, addresses))
    given = {name: value for name, value in extra.items() if name not in ENDPOINTS.values()}
    arguments = ["--cluster"] if cluster else []
    with new_root() as root, ExitStack() as running:
        # The supervisor keeps the ports, so that the proxies can listen before it starts.
        root.save(state)
        proxies = {}
        for member in (member for kind in ENGINES for member in members(kind, cluster)):
            proxies[member.name] = proxy = Proxy(*_ends(member, state))
            proxy.start()
            running.callback(proxy.stop)
        reporter = Reporter(Console(highlight=False))
        state = running.enter_context(supervised(root, given, arguments, reporter, SUPERVISOR))
        stack = stack_at(root, state)
        yield ProxiedStack(stack.root, stack.settings, stack.admin, proxies)


def adapt(part: Part, root: Root, state: State) -> Part:
    """The part as it is in a proxied stack; see `deploy.local.stack.Options`."""
    kind = kind_of(part.name)
    if kind in NAMES:
        part = replace(part, env={**part.env, **service_environment(state)})
    if kind == "gateway":
        return replace(part, env={**part.env, **_clock_environment(_clock(root, part.name))})
    changes = {kafka.NAME: _advertise_kafka, cassandra.NAME: _advertise_cassandra}
    if kind not in changes:
        return part
    [member] = [member for member in members(kind, state.cluster) if member.name == part.name]

    def prepare() -> None:
        part.prepare()
        changes[kind](member, state, root.data / member.name)

    return replace(part, prepare=prepare)


def service_environment(state: State) -> dict[str, str]:
    """The settings by which services reach the engines through the proxies."""
    port = state.ports[KAFKA_SERVICES]
    brokers = (f"{_proxy_host(member.host)}:{port}" for member in members(kafka.NAME, state.cluster))
    nodes = (_proxy_host(member.host) for member in members(cassandra.NAME, state.cluster))
    return {
        "KAFKA_BOOTSTRAP_SERVERS": ",".join(brokers),
        "CASSANDRA_CONTACT_POINTS": ",".join(nodes),
        "S3_ENDPOINT_URL": f"http://{_proxy_host(hosts(False)[0])}:{state.ports[S3_PROXY]}",
    }


def _ends(member: Member, state: State) -> tuple[tuple[str, int], tuple[str, int]]:
    """Where a proxy forwards to, and where it listens."""
    target = KAFKA_SERVICES if member.kind == kafka.NAME else member.kind
    listen = S3_PROXY if member.kind == s3.NAME else target
    return (member.host, state.ports[target]), (_proxy_host(member.host), state.ports[listen])


def _proxy_host(host: str) -> str:
    return host.replace("127.0.0.", "127.0.1.")


def _advertise_kafka(member: Member, state: State, data: Path) -> None:
    port = state.ports[KAFKA_SERVICES]
    path = data / "server.properties"
    written = dict(line.split("=", 1) for line in path.read_text().splitlines())
    written["listeners"] += f",SERVICES://{member.host}:{port}"
    written["advertised.listeners"] += f",SERVICES://{_proxy_host(member.host)}:{port}"
    written["listener.security.protocol.map"] += ",SERVICES:PLAINTEXT"
    path.write_text("".join(f"{name}={value}\n" for name, value in written.items()))


def _advertise_cassandra(member: Member, _state: State, data: Path) -> None:
    path = data / "cassandra.yaml"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"broadcast_rpc_address": _proxy_host(member.host)}))


def _clock(root: Root, gateway: str) -> Path:
    return root.path / f"clock-{gateway}"


def _clock_environment(clock: Path) -> dict[str, str]:
    spec = find_spec("libfaketime")
    assert spec is not None
    assert spec.origin is not None
    if not clock.exists():
        clock.write_text(REAL_TIME)
    return {
        "LD_PRELOAD": str(Path(spec.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        # A jump takes effect at once. To read the file takes 2 microseconds each time.
        "FAKETIME_NO_CACHE": "1",
        # As on a real machine: the monotonic clock does not jump.
        "DONT_FAKE_MONOTONIC": "1",
        # The library's own choice made each wait for a lock too long: a request took 4.6 s, not 0.2 s.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }
