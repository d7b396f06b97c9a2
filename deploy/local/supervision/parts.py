"""A part of the stack: a program that is kept running, and how to see that it is ready."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

Probe = Callable[[], Awaitable[None]]
"""Returns when a client can use the part; raises anything while it cannot."""


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Part:
    """What the supervisor needs to know. `stop_grace`: seconds between SIGTERM and SIGKILL.

    `start_timeout`: seconds for what lives and does not answer (a busy machine took 130 for what takes 19).
    """

    name: str
    title: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    probe: Probe
    url: str
    ready_url: str = ""
    stop_grace: float = 15
    start_timeout: float = 600
    quiet: bool = False
    """Only warnings and errors of this part are shown in the foreground; its log file has everything."""
    prepare: Callable[[], None] = field(default=_nothing)
    """Runs before each start, in a thread: writes configuration, formats storage. Must be safe to repeat."""
