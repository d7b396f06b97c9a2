"""What a request handler can reach: built once at start-up, handed to the app, replaced by memory in unit tests."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from gateway.changes import Changes
from shared.ports import CommandLog, Index, ObjectStore
from shared.settings import Settings


@dataclass
class Services:
    """The gateway's settings and engines."""

    settings: Settings
    store: ObjectStore
    index: Index
    log: CommandLog
    changes: Changes = field(default_factory=Changes)


def services(request: Request) -> Services:
    """FastAPI dependency: the app's services."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]
