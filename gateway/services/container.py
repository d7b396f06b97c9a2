"""What a request handler can reach: built once at start-up, handed to the app, replaced by memory in unit tests."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from fastapi import Depends, Request

from gateway.services.admission import Admission
from gateway.services.changes import Changes
from gateway.services.claims import Claims
from gateway.services.credentials import KeyIssuer
from gateway.services.waiting import Waiting
from shared.ports import CommandLog, Index, ObjectStore
from shared.settings import Settings


@dataclass
class Services:
    """The gateway's settings and engines. `keys` is None where this deployment gives out no temporary keys."""

    settings: Settings
    store: ObjectStore
    index: Index
    log: CommandLog
    claims: Claims
    keys: KeyIssuer | None = None
    changes: Changes = field(default_factory=Changes)

    @cached_property
    def admission(self) -> Admission:
        """Bounds of what comes in."""
        return Admission(self.settings.max_concurrent_uploads, self.settings.max_upload_memory)

    @cached_property
    def waiting(self) -> Waiting:
        """Requests that wait for their variants."""
        return Waiting(self.index, self.changes, self.settings.public_base_url)


def services(request: Request) -> Services:
    """FastAPI dependency: the app's services."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]
