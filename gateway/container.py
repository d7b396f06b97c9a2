"""The settings, connections and services of a gateway process. Only the routes and the start-up code know them all."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

from fastapi import Depends, Request

from gateway.events.indexed import IndexedPosition
from gateway.events.listeners import Listeners
from gateway.http.asyncapi import asyncapi
from gateway.reading.image_rows import ImageRows
from gateway.reading.lists import Lists
from gateway.receiving.body import Pace
from gateway.receiving.checking import FileLimits
from gateway.receiving.form import UploadForms
from gateway.services.admission import Admission
from gateway.services.answers import Answers
from gateway.services.changes import Changes
from gateway.services.claims import Claims
from gateway.services.credentials import KeyIssuer
from gateway.services.set_leases import SetLeases
from gateway.services.succession import Successions
from gateway.services.waiting import Waiting
from gateway.writing.journal import Journal
from gateway.writing.uploads import Uploads
from shared.observability.availability import Availability
from shared.ports import CommandLog, Index, ObjectStore
from shared.settings import Settings

ENGINES = ("kafka", "s3", "cassandra")


@dataclass
class Services:
    """Made once at start-up; unit tests make it over ports in memory. `keys` is None if temporary keys are disabled."""

    settings: Settings
    store: ObjectStore
    index: Index
    log: CommandLog
    claims: Claims
    successions: Successions
    set_leases: SetLeases
    keys: KeyIssuer | None = None
    changes: Changes = field(default_factory=Changes)
    availability: Availability = field(default_factory=lambda: Availability(ENGINES))

    @property
    def base_url(self) -> str:
        """Public URL of this deployment, without a slash at its end."""
        return self.settings.public_base_url

    @cached_property
    def asyncapi(self) -> dict[str, Any]:
        """The AsyncAPI document of this deployment."""
        return asyncapi(self.settings)

    @cached_property
    def listeners(self) -> Listeners:
        """Those who follow live events."""
        return Listeners(self.settings.max_event_listeners)

    @cached_property
    def indexed(self) -> IndexedPosition:
        """The position of the events that the index has."""
        return IndexedPosition(self.settings, self.listeners)

    @cached_property
    def admission(self) -> Admission:
        """Bounds of concurrent uploads."""
        return Admission(
            self.settings.max_concurrent_uploads, self.settings.max_upload_memory, self.settings.trusted_proxies
        )

    @cached_property
    def pace(self) -> Pace:
        """How slowly a client may send a body."""
        return Pace(self.settings.upload_idle_timeout.total_seconds(), self.settings.upload_min_rate)

    @cached_property
    def file_limits(self) -> FileLimits:
        """How large an uploaded file may be."""
        return FileLimits(self.settings.max_upload_bytes, self.settings.max_pixels, self.settings.max_side)

    @cached_property
    def forms(self) -> UploadForms:
        """Receives and checks the forms of uploads."""
        return UploadForms(self.admission, self.pace, self.file_limits)

    @cached_property
    def journal(self) -> Journal:
        """Appends commands."""
        return Journal(self.log, self.index, self.changes, self.settings.epoch, self.settings.day_shards)

    @cached_property
    def uploads(self) -> Uploads:
        """Stores originals and appends their commands."""
        return Uploads(self.store, self.journal, self.settings.ladder, self.base_url)

    @cached_property
    def answers(self) -> Answers:
        """The answers of the processor that arrive."""
        return Answers(self.index, self.changes)

    @cached_property
    def waiting(self) -> Waiting:
        """Requests that wait for their variants."""
        return Waiting(self.index, self.changes, self.answers, self.base_url, self.settings.max_wait)

    @cached_property
    def image_rows(self) -> ImageRows:
        """Cached rows of single images."""
        return ImageRows(
            self.index,
            self.changes,
            ttl=self.settings.list_cache_ttl,
            base_url=self.base_url,
            indexed=self.indexed,
        )

    @cached_property
    def lists(self) -> Lists:
        """Cached pages of lists."""
        return Lists(
            self.index,
            self.changes,
            shards=self.settings.day_shards,
            ttl=self.settings.list_cache_ttl,
            base_url=self.base_url,
            indexed=self.indexed,
        )


async def services(request: Request) -> Services:
    """FastAPI dependency: the services of the app.

    It is a coroutine function although it awaits nothing, because FastAPI runs a plain function in a thread.
    """
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]
