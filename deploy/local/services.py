"""The three services as parts of the stack, and the settings that they get."""

import asyncio
import http.client
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

from deploy.local.engines import cassandra, jars, kafka, s3
from deploy.local.ports import LOOPBACK
from deploy.local.state import State
from deploy.local.supervision.parts import Part, Probe
from deploy.local.topology import Member
from shared.settings import Settings

NAMES = ("processor", "indexer", "gateway")
SWEEP = "sweep"
SWEEP_EVERY = "10m"
"""Pause between two sweeps of superseded objects; each of those lives for SWEEP_DELAY anyway."""
PORTS = ("gateway_internal", "processor_internal", "indexer_internal")
MEMORY = {"gateway": 150_000_000, "processor": 250_000_000, "indexer": 100_000_000, SWEEP: 100_000_000}
"""Bytes that each held, with its child processes, after a fault run, rounded up. Rendering large photos takes more."""

ENDPOINTS = {**jars.ENDPOINTS, s3.NAME: "S3_ENDPOINT_URL"}
"""An engine whose variable is set is not started: the services use the one that it names."""


def environment(state: State, given: Mapping[str, str]) -> dict[str, str]:
    """The services' settings: those of this stack, and all others that the user has set in the environment."""
    known = {name.upper() for name in Settings.model_fields}
    chosen = {name: value for name, value in given.items() if name in known}
    ports = state.ports
    own = {
        "GATEWAY_HOST": LOOPBACK,
        "GATEWAY_PORT": str(ports["gateway"]),
        "GATEWAY_INTERNAL_PORT": str(ports["gateway_internal"]),
        "PROCESSOR_INTERNAL_PORT": str(ports["processor_internal"]),
        "INDEXER_INTERNAL_PORT": str(ports["indexer_internal"]),
    }
    defaults = {"PUBLIC_BASE_URL": f"http://{LOOPBACK}:{ports['gateway']}", "LOG_FORMAT": "console"}
    if not given.get(ENDPOINTS[kafka.NAME]):
        own |= kafka.settings(state)
    if not given.get(ENDPOINTS[cassandra.NAME]):
        own |= cassandra.settings(state)
    if not given.get(ENDPOINTS[s3.NAME]):
        defaults["CREDENTIALS_ENABLED"] = "true"
        own |= s3.settings(state)
    return {**defaults, **chosen, **own}


def settings_from(values: Mapping[str, str]) -> Settings:
    """The same values as the services will read them from the environment, where an empty one counts as unset."""
    return Settings(**{name.lower(): value for name, value in values.items() if value})  # type: ignore[arg-type]


NEEDS = {
    "processor": (kafka.NAME, s3.NAME),
    "indexer": (kafka.NAME, cassandra.NAME),
    "gateway": (kafka.NAME, cassandra.NAME, s3.NAME),
}
"""The engines that must be prepared before a service runs. A service imports its modules while they start."""


def part(member: Member, state: State, env: Mapping[str, str], release: Probe) -> Part:
    """A service as a part; ready when its `/readyz` answers 200."""
    internal = f"http://{member.host}:{state.ports[f'{member.kind}_internal']}"
    public = f"http://{member.host}:{state.ports['gateway']}"
    return Part(
        name=member.name, title=member.titled(member.kind.capitalize()),
        argv=(sys.executable, "-m", "deploy.local.supervision.preloaded", member.kind),
        env={**env, "GATEWAY_HOST": member.host, "INTERNAL_HOST": member.host},
        probe=lambda: probe(f"{internal}/readyz"), ready_url=f"{internal}/readyz",
        url=public if member.kind == "gateway" else internal,
        release=release,
        # Handlers may finish their work: the processor bounds each of them well under this.
        stop_grace=30,
    )  # fmt: skip


def sweep_part(env: Mapping[str, str]) -> Part:
    """The sweep of superseded revisions and renders, repeated. It serves nothing, so it is ready at once."""
    argv = (sys.executable, "-m", "ops.cli", "gc", "--superseded", "--apply", "--every", SWEEP_EVERY)
    return Part(name=SWEEP, title="Sweep", argv=argv, env=env, probe=_nothing, url="", quiet=True)


async def _nothing() -> None:
    return None


async def probe(url: str) -> None:
    """GET the readiness page. Raises while the service is not ready, with what the page names as missing."""
    await asyncio.to_thread(_get, url)


def _get(url: str) -> None:
    # Not httpx: to import it and to make its client costs a third of a second of CPU while the engines start.
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        connection.request("GET", urlsplit(url).path)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    finally:
        connection.close()
    if answer.status != 200:
        raise ConnectionError(f"{url} answers {answer.status}: {text[:200]}")
