"""The render pool under hostile images, kills, stops, cancellation and the death of its parent: real processes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest
from PIL import Image

from processor.rendering.pool import RenderPool
from processor.rendering.render import RenderLimits, render
from processor.rendering.wire import BadAnswerError, parse_answer, rejected_answer, rendered_answer
from shared.contract.ladder import Ladder, Rung
from shared.errors import ImageRejected, Unavailable
from tests.support import images
from tests.support.processes.halt import stopped
from tests.support.waiting import wait_for_async

LIMITS = RenderLimits(max_pixels=64_000_000, max_side=16_383, max_frames=120, max_animation_pixels=64_000_000)
LADDER = Ladder(method=0, rungs=(Rung(name="small", width=32, fraction=0.5, quality=75),))
EASY = images.encode(images.photo(64, 48), "JPEG")
SLOW = images.scan_bomb(4096, 400)
"""Seconds of work for the decoder, in 70 kB."""


@asynccontextmanager
async def pool_of(workers: int, timeout_seconds: float = 60) -> AsyncIterator[RenderPool]:
    pool = RenderPool(workers, timeout_seconds)
    await pool.start()
    try:
        yield pool
    finally:
        pids = pool.pids
        await pool.close(0)
        assert not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def _busy(pid: int) -> None:
    """Wait until the process computes."""
    process = psutil.Process(pid)
    before = process.cpu_times().user
    await wait_for_async(lambda: process.cpu_times().user > before + 0.1, 60, "the process computes")


async def test_result_equals_that_of_the_pure_function() -> None:
    async with pool_of(2) as pool:
        results = await asyncio.gather(*(pool.render(EASY, LADDER, LIMITS) for _ in range(6)))
    assert set(results) == {render(EASY, LADDER, LIMITS)}


async def test_rejection_keeps_its_type_and_the_worker() -> None:
    async with pool_of(1) as pool:
        before = pool.pids
        with pytest.raises(ImageRejected) as caught:
            await pool.render(images.FOREIGN["GIF"](), LADDER, LIMITS)
        assert caught.value.reason == "unsupported_format"
        assert "GIF" in caught.value.detail
        assert (await pool.render(EASY, LADDER, LIMITS)).width == 64
        assert pool.pids == before


async def test_large_answer_is_transferred_completely() -> None:
    noisy = Image.effect_noise((1500, 1500), 200)
    data = images.encode(noisy, "JPEG", quality=90)
    async with pool_of(1) as pool:
        rendering = await pool.render(data, Ladder(full_quality=100, method=0), LIMITS)
    assert len(rendering.variants[0].data) > 1 << 20
    assert images.decode(rendering.variants[0].data).size == (1500, 1500)


async def test_killed_worker_is_replaced_and_the_image_tried_again() -> None:
    async with pool_of(1) as pool:
        (pid,) = pool.pids
        task = asyncio.create_task(pool.render(SLOW, LADDER, LIMITS))
        await _busy(pid)
        os.kill(pid, signal.SIGKILL)
        await wait_for_async(lambda: pool.pids not in ((pid,), ()), 60, "another worker process")
        task.cancel()
        assert (await pool.render(EASY, LADDER, LIMITS)).width == 64


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_second_crash_rejects_the_image_and_no_other(number: signal.Signals) -> None:
    async with pool_of(2) as pool:
        # The first worker takes the first image.
        pid, other = pool.pids
        victim = asyncio.create_task(pool.render(SLOW, LADDER, LIMITS))
        await _busy(pid)
        assert (await pool.render(EASY, LADDER, LIMITS)).width == 64
        os.kill(pid, number)
        pid = await _successor(pool, {pid, other})
        await _busy(pid)
        assert (await pool.render(EASY, LADDER, LIMITS)).width == 64
        os.kill(pid, number)
        with pytest.raises(ImageRejected) as caught:
            await victim
        assert caught.value.reason == "crashed_decoder"
        assert other in pool.pids
        assert (await pool.render(EASY, LADDER, LIMITS)).width == 64


async def _successor(pool: RenderPool, known: set[int]) -> int:
    """The process that was started in place of another, once its libraries are loaded."""
    await wait_for_async(lambda: set(pool.pids) - known, 60, "another worker process")
    (pid,) = set(pool.pids) - known
    # The last thing that a worker does before it takes an image.
    await wait_for_async(
        lambda: psutil.Process(pid).nice() > psutil.Process().nice(), 60, "a worker that has loaded its libraries"
    )
    return pid


async def test_slow_image_is_rejected_after_two_timeouts() -> None:
    async with pool_of(1, timeout_seconds=2) as pool:
        started = time.monotonic()
        with pytest.raises(ImageRejected) as caught:
            await pool.render(SLOW, LADDER, LIMITS)
        assert caught.value.reason == "timeout"
        assert time.monotonic() - started >= 4
        assert (await pool.render(EASY, LADDER, LIMITS)).width == 64


async def test_stuck_worker_is_replaced() -> None:
    async with pool_of(1, timeout_seconds=3) as pool:
        (pid,) = pool.pids
        with stopped(pid):
            # The first attempt runs into the limit, the second succeeds in a fresh process.
            assert (await pool.render(EASY, LADDER, LIMITS)).width == 64
        assert pool.pids != (pid,)
        assert not _alive(pid)


async def test_worker_killed_between_images_rejects_no_image() -> None:
    async with pool_of(1) as pool:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        assert (await pool.render(EASY, LADDER, LIMITS)).width == 64


async def test_cancelling_frees_the_worker_at_once() -> None:
    async with pool_of(1) as pool:
        (pid,) = pool.pids
        task = asyncio.create_task(pool.render(SLOW, LADDER, LIMITS))
        await _busy(pid)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait_for_async(lambda: not _alive(pid), 2, "the worker of the cancelled image to end")
        assert (await pool.render(EASY, LADDER, LIMITS)).width == 64


async def test_cancelling_while_waiting_for_a_worker_keeps_the_pool_usable() -> None:
    async with pool_of(1) as pool:
        first = asyncio.create_task(pool.render(EASY, LADDER, LIMITS))
        second = asyncio.create_task(pool.render(EASY, LADDER, LIMITS))
        await asyncio.sleep(0)
        second.cancel()
        assert (await first).width == 64
        assert (await pool.render(EASY, LADDER, LIMITS)).width == 64


async def test_close_waits_for_running_renders() -> None:
    pool = RenderPool(1, 60)
    await pool.start()
    task = asyncio.create_task(pool.render(images.scan_bomb(2048, 50), LADDER, LIMITS))
    waiting = asyncio.create_task(pool.render(EASY, LADDER, LIMITS))
    await _busy(pool.pids[0])
    await pool.close(30)
    assert (await task).width == 2048
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await pool.render(EASY, LADDER, LIMITS)
    assert pool.pids == ()


async def test_close_ends_renders_at_its_deadline() -> None:
    pool = RenderPool(1, 60)
    await pool.start()
    task = asyncio.create_task(pool.render(SLOW, LADDER, LIMITS))
    waiting = asyncio.create_task(pool.render(EASY, LADDER, LIMITS))
    await _busy(pool.pids[0])
    started = time.monotonic()
    await pool.close(0.2)
    assert time.monotonic() - started < 2
    for unfinished in (task, waiting):
        with pytest.raises(Unavailable):
            await unfinished
    await pool.close(0.2)


async def test_workers_ignore_the_terminals_signals() -> None:
    async with pool_of(1) as pool:
        (pid,) = pool.pids
        assert os.getpgid(pid) != os.getpgid(0)
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        assert (await pool.render(EASY, LADDER, LIMITS)).width == 64
        assert pool.pids == (pid,)


async def test_workers_have_a_lower_priority() -> None:
    async with pool_of(1) as pool:
        assert psutil.Process(pool.pids[0]).nice() == psutil.Process().nice() + 5


PARENT = """
import asyncio
from processor.rendering.pool import RenderPool
from tests.unit.processor.test_pool import LADDER, LIMITS, SLOW

async def main():
    pool = RenderPool(2, 60)
    await pool.start()
    print(*pool.pids, flush=True)
    await pool.render(SLOW, LADDER, LIMITS)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker finishes its image first")
async def test_no_orphans_after_kill_9_of_the_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    with parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(_alive(pid) for pid in pids)
        parent.kill()
    await wait_for_async(lambda: not any(_alive(pid) for pid in pids), 3, "the workers to end with their parent")


# The protocol: a worker that an image has taken over can answer anything


def test_answer_is_equal_after_transfer() -> None:
    rendering = render(EASY, LADDER, LIMITS)
    parts = rendered_answer(rendering)
    assert parse_answer(parts[0][8:], b"".join(parts[1:]), LADDER, LIMITS) == rendering
    with pytest.raises(ImageRejected, match="too big"):
        parse_answer(rejected_answer(ImageRejected("too_wide", "too big"))[0][8:], b"", LADDER, LIMITS)


@pytest.mark.parametrize(
    "header",
    [b"", b"[]", b"[" * 10_000, b"no json", b"\xff\xfe", b'{"kind": "rendered"}', b'{"kind": "rejected"}',
     b'{"kind": "other"}',
     b'{"kind": "rendered", "variants": [{"name": "full", "size": 99, "width": 1, "height": 1, "sha256": ""}]}',
     b'{"kind": "rendered", "variants": [{"name": "full", "size": -1, "width": 1, "height": 1, "sha256": ""}]}'],
)  # fmt: skip
def test_invalid_answer_of_a_worker_is_refused(header: bytes) -> None:
    with pytest.raises(BadAnswerError):
        parse_answer(header, b"body", LADDER, LIMITS)
