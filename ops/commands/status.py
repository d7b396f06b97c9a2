"""`imagepipe status`: each part of the local stack, and how far the consumers are behind."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from deploy.local import services
from deploy.local.state import PartPhase, PartState, Phase, Root, State
from deploy.local.supervision import process
from deploy.local.topology import kind_of
from ops.terminal.options import DEFAULT_ROOT, AsJson, StackRoot
from ops.terminal.output import result_console

if TYPE_CHECKING:
    from ops.log.consumer_groups import Lag

COLOURS = {"ready": "green", "external": "green", "starting": "yellow", "waiting": "red", "not ready": "red"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(
    root: StackRoot = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Show each part with its state, pid, URL, restarts and memory, and the consumers' lag.

    Exit code 0 when all parts are ready, otherwise 3.
    """
    document = asyncio.run(describe(Root.at(root)))
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        _show(document, result_console())
    if document["state"] != "ready":
        raise typer.Exit(3)


async def describe(root: Root) -> dict[str, Any]:
    """The status document: `root`, `state`, `message`, `gateway_url`, `parts`, `lag` (null without Kafka)."""
    state = root.load()
    if state is None:
        return {"root": str(root.path), "state": "none", "message": "", "gateway_url": None, "parts": [], "lag": None}
    running = root.is_supervised()
    settings = root.read_env()
    parts = await asyncio.gather(*(_describe_part(name, part, running) for name, part in state.parts.items()))
    own = {kind_of(name) for name in state.parts}
    external = [
        _row(engine, "external", settings.get(variable, "")) for engine, variable in services.ENDPOINTS.items()
        if engine not in own and settings
    ]  # fmt: skip
    return {
        "root": str(root.path),
        "state": _overall(state, running, list(parts)),
        "message": state.message,
        "gateway_url": state.gateway_url if running else None,
        "parts": [*parts, *external] if running else list(parts),
        "lag": await _lag(settings) if running and settings else None,
    }


def _overall(state: State, running: bool, parts: list[dict[str, Any]]) -> str:
    if not running:
        # A supervisor that ended by SIGKILL could not record its end.
        return state.phase.value if state.phase in (Phase.STOPPED, Phase.FAILED) else "killed"
    if state.phase is Phase.READY and any(part["state"] != "ready" for part in parts):
        return "degraded"
    return state.phase.value


def _row(name: str, state: str, url: str) -> dict[str, Any]:
    return {"name": name, "state": state, "pid": None, "url": url, "restarts": 0, "memory_bytes": None, "detail": ""}


async def _describe_part(name: str, part: PartState, running: bool) -> dict[str, Any]:
    found = process.find(part.process) if running else None
    row = _row(name, part.phase.value if running else "stopped", part.url)
    row |= {"restarts": part.restarts, "detail": part.detail, "pid": found.pid if found else None}
    row["memory_bytes"] = process.memory(found) if found else None
    if part.ready_url and running and part.phase is PartPhase.READY:
        # The supervisor probes a part until it is ready; only the service itself knows its state after that.
        try:
            await services.probe(part.ready_url)
        except Exception as error:
            row |= {"state": "not ready", "detail": str(error) or type(error).__name__}
    return row


async def _lag(values: dict[str, str]) -> list["Lag"] | None:
    from aiokafka.errors import KafkaError

    from ops.log.consumer_groups import consumer_lag

    try:
        return await consumer_lag(services.settings_from(values))
    except (KafkaError, TimeoutError, OSError):
        return None


def _show(document: dict[str, Any], console: Console) -> None:
    console.print(f"[bold]{document['root']}[/]: {document['state']} {document['message']}")
    if not document["parts"]:
        console.print("No stack here yet: [cyan]imagepipe up[/] starts a stack.")
        return
    table = Table("part", "state", "pid", "restarts", "memory", "url", box=None)
    for part in document["parts"]:
        memory = f"{part['memory_bytes'] / 1e6:.0f} MB" if part["memory_bytes"] else ""
        state = f"[{COLOURS.get(part['state'], 'white')}]{part['state']}[/]"
        pid = str(part["pid"] or "")
        table.add_row(part["name"], state, pid, str(part["restarts"]), memory, part["url"])
    console.print(table)
    for part in document["parts"]:
        if part["detail"]:
            console.print(f"{part['name']}: {part['detail']}")
    if document["lag"] is None:
        console.print("lag: unknown (Kafka does not answer)")
    for row in document["lag"] or []:
        console.print(f"lag of {row['group']} on {row['topic']}: {row['lag']}")
