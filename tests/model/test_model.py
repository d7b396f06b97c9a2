"""The rules for one image hold over thousands of random histories, and the harness finds each deliberate bug.

The bugs are made here, by replacing pieces of the handler or of the harness, private ones too: the product has no such
switches.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from processor import decision, handler, lookup, results
from processor.decision import Decision, Remove, decide
from processor.handler import Handler
from shared.contract import logged_command
from shared.contract.encoding import decode_manifest
from shared.contract.events import Event, Manifest, Removed, Variant
from shared.contract.keys import MANIFEST_NAME, is_manifest
from shared.contract.logged_command import LoggedDelete, LoggedRenderCommand
from shared.errors import PreconditionFailed, Unavailable
from shared.ports import ObjectInfo
from shared.read_model import tables
from tests.model.bugs import exist_at_the_records_own_version
from tests.model.world import StallingStore, World, verdict

HISTORIES = 600
"""Per kind; each takes some milliseconds."""
SEARCH = 3000
"""Histories within which a deliberate bug must show."""


async def first_broken(seeds: range, *, duplicates: bool, bugs: frozenset[str] = frozenset()) -> str | None:
    for seed in seeds:
        world = World(seed, duplicates=duplicates, bugs=bugs)
        await world.run()
        if wrong := await verdict(world):
            kinds = [logged.command.type for logged in world.log]
            return f"{wrong}: seed {seed}, commands {kinds}, answers {[event.type for event in world.events.events]}"
    return None


@pytest.mark.parametrize("duplicates", [False, True], ids=["each once", "some sent twice"])
def test_random_histories_keep_every_rule(duplicates: bool) -> None:
    assert asyncio.run(first_broken(range(HISTORIES), duplicates=duplicates)) is None


def crash_before_each_marker(patch: pytest.MonkeyPatch) -> None:
    """Every worker ends between the manifest and its marker. The command is tried again."""

    async def crash(store: Any, manifest: Any) -> None:
        raise Unavailable("s3", "away")

    patch.setattr(handler, "mark_ready", crash)


def test_rules_hold_if_each_worker_crashes_before_the_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    crash_before_each_marker(monkeypatch)
    assert asyncio.run(first_broken(range(HISTORIES // 2), duplicates=False)) is None


def overwrite_manifests(patch: pytest.MonkeyPatch) -> None:
    put = StallingStore.put

    async def careless(
        self: StallingStore, key: str, data: bytes, content_type: str, *, if_absent: bool = False
    ) -> str:
        return await put(self, key, data, content_type, if_absent=if_absent and not key.endswith("manifest.json"))

    patch.setattr(StallingStore, "put", careless)


def trust_own_variants(patch: pytest.MonkeyPatch) -> None:
    """Describe what was rendered where something else was stored before."""

    async def blind(store: Any, variant: Any, path: str, url: str) -> Any:
        with suppress(PreconditionFailed):
            await store.put(path, variant.data, "image/webp", if_absent=True)
        return Variant(
            name=variant.name,
            path=path,
            url=url,
            content_type="image/webp",
            width=variant.width,
            height=variant.height,
            size=len(variant.data),
            sha256=variant.sha256,
        )

    patch.setattr(results, "_write_variant", blind)


def look_at_the_tombstone_once(patch: pytest.MonkeyPatch) -> None:
    read = results.read_tombstone
    looked: set[int] = set()

    async def once(store: Any, image_id: Any) -> int | None:
        task = id(asyncio.current_task())
        if task in looked:
            looked.discard(task)
            return None
        looked.add(task)
        found = await read(store, image_id)
        if found is not None:
            looked.discard(task)
        return found

    patch.setattr(handler, "read_tombstone", once)


def bury_last(patch: pytest.MonkeyPatch) -> None:
    """Delete first, write the tombstone after."""

    async def late(self: Handler, logged: LoggedDelete) -> Removed:
        await results.delete_image(self._store, logged.command.image_id)
        return logged.removed(await results.put_tombstone(self._store, logged.command.image_id, logged.answer_version))

    patch.setattr(Handler, "_delete", late)


def let_failures_supersede(patch: pytest.MonkeyPatch) -> None:
    def later(manifests: Sequence[Manifest], _: UUID, mine: tuple[int, int]) -> Manifest | None:
        return max((m for m in manifests if m.precedence > mine), key=lambda m: m.precedence, default=None)

    patch.setattr(decision, "_later", later)


def supersede_by_command_only(patch: pytest.MonkeyPatch) -> None:
    """Treat a reprocess of an old revision as later than a newer revision."""

    def later(manifests: Sequence[Manifest], _: UUID, mine: tuple[int, int]) -> Manifest | None:
        ready = [m for m in manifests if m.event.type == "image.ready" and m.precedence[1] > mine[1]]
        return max(ready, key=lambda m: m.precedence[1], default=None)

    patch.setattr(decision, "_later", later)


def keep_what_comes_after_a_delete(patch: pytest.MonkeyPatch) -> None:
    carry_out = Handler._carry_out

    async def careless(self: Handler, decision: Any, logged: LoggedRenderCommand) -> Event:
        if isinstance(decision, Remove):
            return logged.removed(decision.tombstone)
        return await carry_out(self, decision, logged)

    patch.setattr(Handler, "_carry_out", careless)


def call_what_is_swept_lost(patch: pytest.MonkeyPatch) -> None:
    """Do not read the manifests again once the original is missed."""

    def hasty(
        logged: LoggedRenderCommand,
        tombstone: int | None,
        manifests: Sequence[Manifest],
        *,
        original_lost: bool = False,
    ) -> Decision:
        return decide(logged, tombstone, [] if original_lost else manifests, original_lost=original_lost)

    patch.setattr(handler, "decide", hasty)


def outcome_in_the_key_of_the_manifest(patch: pytest.MonkeyPatch) -> None:
    """`manifest.ready.json` and `manifest.failed.json`, so that one listing of keys would decide."""
    put, get, page = StallingStore.put, StallingStore.get, StallingStore.page
    listed, delete, suffixes = StallingStore.list, StallingStore.delete, (".ready.json", ".failed.json")

    def both(key: str) -> list[str]:
        return [key.replace(MANIFEST_NAME, f"manifest{suffix}") for suffix in suffixes] if is_manifest(key) else [key]

    def plain(found: Sequence[ObjectInfo]) -> list[ObjectInfo]:
        for suffix in suffixes:
            found = [replace(info, key=info.key.replace(f"manifest{suffix}", MANIFEST_NAME)) for info in found]
        return list({info.key: info for info in found}.values())

    async def put_outcome(
        self: StallingStore, key: str, data: bytes, content_type: str, *, if_absent: bool = False
    ) -> str:
        if is_manifest(key):
            outcome = decode_manifest(data).event.type.removeprefix("image.")
            key = key.replace(MANIFEST_NAME, f"manifest.{outcome}.json")
        return await put(self, key, data, content_type, if_absent=if_absent)

    async def get_either(self: StallingStore, key: str) -> bytes:
        return await get(self, next((each for each in both(key) if each in self.objects), key))

    async def plain_page(self: StallingStore, prefix: str, token: str | None = None, **options: Any) -> Any:
        found, following = await page(self, prefix, token, **options)
        return plain(found), following

    async def plain_list(self: StallingStore, prefix: str) -> list[ObjectInfo]:
        return plain(await listed(self, prefix))

    async def delete_both(self: StallingStore, keys: Sequence[str]) -> None:
        await delete(self, [each for key in keys for each in both(key)])

    patch.setattr(StallingStore, "put", put_outcome)
    patch.setattr(StallingStore, "get", get_either)
    patch.setattr(StallingStore, "page", plain_page)
    patch.setattr(StallingStore, "list", plain_list)
    patch.setattr(StallingStore, "delete", delete_both)


def leave_out_the_marker_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    """A redelivered command finds its manifest, and does not write the marker before which the worker crashed."""
    crash_before_each_marker(patch)

    async def nothing(store: Any, manifest: Any) -> None:
        return None

    patch.setattr(lookup, "mark_ready", nothing)


def mark_after_the_tombstone_was_read(patch: pytest.MonkeyPatch) -> None:
    read, mark = results.read_tombstone, results.mark_ready
    waiting: dict[int, Manifest] = {}

    async def later(store: Any, manifest: Manifest) -> None:
        waiting[id(asyncio.current_task())] = manifest

    async def read_first(store: Any, image_id: UUID) -> int | None:
        found = await read(store, image_id)
        manifest = waiting.pop(id(asyncio.current_task()), None)
        if manifest is not None and found is None:
            await mark(store, manifest)
        return found

    patch.setattr(handler, "mark_ready", later)
    patch.setattr(handler, "read_tombstone", read_first)


def trust_markers_of_an_earlier_version(patch: pytest.MonkeyPatch) -> None:
    """Take the markers for complete, although an earlier version has stored manifests without them."""

    async def nothing(store: Any, image_id: Any) -> None:
        return None

    patch.setattr(lookup, "complete_markers", nothing)


def answer_at_the_commands_own_version(patch: pytest.MonkeyPatch) -> None:
    for module in (logged_command, tables):
        patch.setattr(module, "answer_version", lambda version: version)


PATCHED: list[Callable[[pytest.MonkeyPatch], None]] = [
    overwrite_manifests,
    trust_own_variants,
    look_at_the_tombstone_once,
    bury_last,
    let_failures_supersede,
    supersede_by_command_only,
    keep_what_comes_after_a_delete,
    call_what_is_swept_lost,
    outcome_in_the_key_of_the_manifest,
    leave_out_the_marker_after_a_crash,
    mark_after_the_tombstone_was_read,
    trust_markers_of_an_earlier_version,
    answer_at_the_commands_own_version,
    exist_at_the_records_own_version,
]


RARE: dict[Callable[[pytest.MonkeyPatch], None], int] = {
    overwrite_manifests: 120,
    leave_out_the_marker_after_a_crash: 200,
    outcome_in_the_key_of_the_manifest: 390,
    trust_markers_of_an_earlier_version: 685,
    mark_after_the_tombstone_was_read: 2380,
}
"""First seeds for bugs that few histories show. The first history that shows each of them comes soon after its seed."""


@pytest.mark.parametrize("bug", PATCHED, ids=lambda bug: str(bug.__name__))
def test_deliberate_bug_in_the_handler_is_found(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: Any) -> None:
    bug(monkeypatch)
    first = RARE.get(bug, 0)
    assert asyncio.run(first_broken(range(first, first + SEARCH), duplicates=False)) is not None


@pytest.mark.parametrize("bug", ["sweep_guess", "outcome"])
def test_deliberate_bug_around_the_handler_is_found(bug: str) -> None:
    assert asyncio.run(first_broken(range(SEARCH), duplicates=False, bugs=frozenset({bug}))) is not None
