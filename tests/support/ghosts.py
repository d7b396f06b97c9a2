"""Ghosts: rows that a replacement leaves that was appended behind the deletion of its image."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from shared.contract.keys import Owner
from shared.contract.logged_command import versioned
from shared.ports import Index
from shared.read_model.tables import Write, command_writes
from tests.support import records

UPLOADED, DELETED, REPLACED = 10, 20, 30
"""Versions of the three commands."""
IMAGES, GHOSTS = 3, 250


def ghost_writes(image_id: UUID, owner: Owner, shards: int) -> list[Write]:
    """Writes of an upload, its deletion, and a replacement behind that."""
    commands = (
        versioned(records.uploaded(image_id, owner=owner), UPLOADED),
        versioned(records.deleted(image_id, owner), DELETED),
        versioned(records.replaced(image_id, UPLOADED, owner=owner), REPLACED),
    )
    return [write for command in commands for write in command_writes(command, shards)]


async def images_below_ghosts(index: Index, owner: Owner, shards: int, day: datetime) -> tuple[list[UUID], list[UUID]]:
    """Write IMAGES images of this day and GHOSTS ghosts that are all newer; returns the ids of both, newest first."""
    noon = day.replace(hour=12, tzinfo=UTC)
    ids = [records.id_at(noon + timedelta(seconds=number), number) for number in range(IMAGES + GHOSTS)]
    images, ghosts = ids[:IMAGES], ids[IMAGES:]
    writes = [write for image_id in ghosts for write in ghost_writes(image_id, owner, shards)]
    for image_id in images:
        writes += command_writes(versioned(records.uploaded(image_id, owner=owner), UPLOADED), shards)
    await index.apply(writes)
    return images[::-1], ghosts[::-1]
