"""A part of the stack: a program that is kept running, and the check that it is ready."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

Probe = Callable[[], Awaitable[None]]
"""Returns when a client can use the part; raises anything while it cannot."""


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Part:
    """What the supervisor needs of a part. `stop_grace`: seconds between SIGTERM and SIGKILL.

    `start_timeout`: seconds after which a part that runs and does not answer has failed (a busy machine took 130 s for
    a start of 19 s).
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
    release: Probe | None = None
    """Returns when the part may begin its work. The part waits for a line on its standard input until then."""
    prepare: Callable[[], None] = field(default=_nothing)
    """Runs before each start, in a thread: writes configuration, formats storage. Must be safe to repeat."""
