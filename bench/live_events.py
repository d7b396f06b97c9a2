"""Delay and memory of live events, and what a waiting POST adds to them, on engines and services of its own.

    python -m bench.live_events [--listeners 1000] [--rate 50] [--seconds 20] [--waits 40]

Events are published as the processor publishes them, at fixed times. The delay of one is from the start of its publish
to its arrival at a listener, for each listener that gets it. Four loads: one listener of everything; so many listeners
of one owner each; one listener of everything beside so many idle ones; so many listeners of everything. Then small
images are posted with `Prefer: wait` to a whole pipeline: what is measured is the time from the event, as a listener
gets it, to the response of the POST.
"""

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Sequence

import httpx
import psutil

from bench.deployment import Deployment, deployment, engines
from bench.listening import listening
from bench.photos import jpeg_of_size
from bench.records import SOURCE, answer, logged, producing, upload
from bench.stack import run
from shared.contract.keys import Owner
from shared.kafka.writers import KafkaEventLog
from shared.observability.metrics import Service

SETTLE_SECONDS = 5.0
PHOTO_BYTES = 20_000


async def publish(running: Deployment, rate: float, seconds: float, owners: int) -> dict[str, float]:
    """Publish events at fixed times; returns when the publish of each began."""
    began: dict[str, float] = {}
    async with producing(running.settings) as producer:
        events = KafkaEventLog(producer, running.settings, SOURCE)

        async def one(number: int) -> None:
            command = upload(number, running.settings, Owner(type="bench", id=str(number % owners)))
            event = answer(logged(command, number, running.settings), running.settings)
            await asyncio.sleep(number / rate)
            began[str(event.image_id)] = time.perf_counter()
            await events.publish(event)

        await asyncio.gather(*(one(number) for number in range(int(rate * seconds))))
    await asyncio.sleep(SETTLE_SECONDS)
    return began


async def delays(running: Deployment, name: str, paths: Sequence[str], rate: float, seconds: float) -> None:
    """Print the delays of one load, and the memory of the gateway with its listeners."""
    gateway = psutil.Process(running.services[Service.GATEWAY].pid)
    before = gateway.memory_info().rss
    with listening(running.base_url, paths) as listeners:
        idle, cpu = gateway.memory_info().rss, sum(gateway.cpu_times()[:2])
        began = await publish(running, rate, seconds, len(paths))
        cpu, after = sum(gateway.cpu_times()[:2]) - cpu, gateway.memory_info().rss
        received = listeners.received()
    taken = [at - began[image_id] for image_id, times in received.times.items() for at in times]
    print(
        f"{name}: {len(received.times)} of {len(began)} events arrived, {received.frames} frames, "
        f"{received.ended} streams ended; {summary(taken)}; "
        f"gateway {before / 1e6:.0f} MB before, {idle / 1e6:.0f} MB with the listeners, {after / 1e6:.0f} MB after, "
        f"{cpu:.1f} s of CPU time, {cpu / received.frames * 1e6:.0f} µs a frame; listeners {received.cpu:.1f} s",
        flush=True,
    )


async def waits(running: Deployment, count: int) -> None:
    """Print how long after its event a POST with `Prefer: wait` is answered."""
    photo, ended, totals = jpeg_of_size(PHOTO_BYTES), dict[str, float](), list[float]()
    with listening(running.base_url, ["/events"]) as listener:
        async with httpx.AsyncClient(base_url=running.base_url, timeout=60, trust_env=False) as http:
            for _ in range(count):
                started = time.perf_counter()
                found = await http.post("/images", files={"image": photo}, headers={"Prefer": "wait=30"})
                now = time.perf_counter()
                ended[found.raise_for_status().json()["image_id"]] = now
                totals.append(now - started)
        arrived = listener.received().times
    taken = [ended[image_id] - times[0] for image_id, times in arrived.items()]
    print(f"POST with Prefer: wait, {count} in turn: from the event to the response {summary(taken)}")
    print(f"POST with Prefer: wait, {count} in turn: in all {summary(totals)}")


def summary(seconds: Sequence[float]) -> str:
    """Median and 99th percentile in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms"


async def measure(running: Deployment, listeners: int, rate: float, seconds: float, count: int) -> None:
    """All loads in turn."""
    await delays(running, "1 listener", ["/events"], rate, seconds)
    owners = [f"/events?owner_type=bench&owner_id={number}" for number in range(listeners)]
    await delays(running, f"{listeners} listeners of one owner each", owners, rate, seconds)
    idle = [f"/events?owner_type=idle&owner_id={number}" for number in range(listeners - 1)]
    await delays(running, f"1 listener beside {listeners - 1} idle ones", ["/events", *idle], rate, seconds)
    await delays(running, f"{listeners} listeners of everything", ["/events"] * listeners, rate, seconds)
    await waits(running, count)


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--listeners", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=50, help="events per second")
    parser.add_argument("--seconds", type=float, default=20, help="length of each load")
    parser.add_argument("--waits", type=int, default=40, help="POSTs that wait for their variants")
    given = parser.parse_args()
    with engines() as stack, deployment(stack, Service.GATEWAY, Service.INDEXER, Service.PROCESSOR) as running:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        asyncio.run(measure(running, given.listeners, given.rate, given.seconds, given.waits))


if __name__ == "__main__":
    run(main)
