"""Simulates partitions and processors with the measured cost of an image: `python -m bench.capacity`.

Owners are hashed to partitions as Kafka's producers do it, and processors share the partitions as evenly as possible.
The render processes of a processor take the images of all its partitions in the order of arrival. Images arrive at
random (Poisson); how many an owner sends follows Zipf's law. The cost of an image follows the sizes of the generated
photos, with the measured mean. An offset is committed once all lower ones of its partition are done.

The simulation leaves out rebalances, the fair order among owners, and the place that is kept for small images.
"""

import heapq
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
import typer
from aiokafka.partitioner import murmur2
from rich.console import Console
from rich.table import Table

from bench.photos import SIDES
from bench.report import LATEST, RESULTS, load, rounded
from bench.stack import run
from bench.unit_costs import UnitCosts, unit_costs
from ops.terminal.output import result_console
from shared.errors import ConfigurationError

CAPACITY = RESULTS / "capacity.json"
PARTITIONS: Final = (4, 8, 16, 32, 64, 256)
EXPONENTS: Final = (0.0, 0.5, 1.0)
"""Of Zipf's law: all owners send the same; the first of 10,000 sends 0.5 % of all images; it sends 10 %."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Deployment:
    """Processors with this many render processes each, and the partitions that they share."""

    partitions: int
    processors: int
    workers: int

    def processor_of(self, partition: int) -> int:
        """The processor of a partition: each gets a range of them, or one or none where they are few."""
        return partition * self.processors // self.partitions


@dataclass(frozen=True)
class Load:
    """Images: when each arrives, in order; the partition of its owner; and its cost in seconds of a render process."""

    arrivals: Floats
    partitions: Sequence[int]
    costs: Floats


@dataclass(frozen=True)
class Outcome:
    """What came of a load. Delays are from arrival to done, in seconds; lag is in records of one partition.

    `busiest` and `idlest` are the utilisation of the processors with the most and the least work. It is above 1 where
    a processor has more work than it can do, and its delay then grows with the length of the simulation.
    """

    partitions: int
    exponent: float
    utilisation: float
    busiest: float
    idlest: float
    p50: float
    p99: float
    largest_lag: int


def service_times(mean: float, count: int, rng: np.random.Generator) -> Floats:
    """Costs of so many images: those of the generated photos, by their pixels."""
    pixels = np.array(SIDES, dtype=np.float64) ** 2
    return rng.choice(mean * pixels / pixels.mean(), count)


def offered(deployment: Deployment, rate: float, seconds: float, cost: float, owners: int, exponent: float) -> Load:
    """A load of this many images a second, from owners whose shares follow Zipf's law with this exponent."""
    rng = np.random.default_rng(1)
    count = int(rng.poisson(rate * seconds))
    shares = np.arange(1, owners + 1, dtype=np.float64) ** -exponent
    sent = np.searchsorted(np.cumsum(shares / shares.sum()), rng.random(count))
    # Rounding may leave the last of the cumulated shares below 1.
    who, index = np.unique(np.minimum(sent, owners - 1), return_inverse=True)
    homes = np.array([partition_of(f"user/{owner}", deployment.partitions) for owner in who])
    return Load(np.sort(rng.uniform(0, seconds, count)), homes[index].tolist(), service_times(cost, count, rng))


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key, as Kafka's default partitioner computes it."""
    return int(murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def finished(deployment: Deployment, load: Load) -> Floats:
    """When each image is done."""
    free = [[0.0] * deployment.workers for _ in range(deployment.processors)]
    done = np.empty(len(load.arrivals))
    for number, (arrival, partition, cost) in enumerate(
        zip(load.arrivals.tolist(), load.partitions, load.costs.tolist(), strict=True)
    ):
        workers = free[deployment.processor_of(partition)]
        done[number] = max(arrival, workers[0]) + cost
        heapq.heapreplace(workers, done[number])
    return done


def simulate(deployment: Deployment, load: Load, seconds: float, exponent: float) -> Outcome:
    """The outcome of this load, which takes `seconds` to arrive."""
    done = finished(deployment, load)
    delays = done - load.arrivals
    homes = np.array(load.partitions)
    processors = [deployment.processor_of(each) for each in load.partitions]
    work = np.bincount(processors, load.costs, deployment.processors)
    used = work / (deployment.workers * seconds)
    lags = (_largest_lag(load.arrivals[homes == each], done[homes == each]) for each in np.unique(homes))
    p50, p99 = np.quantile(delays, (0.5, 0.99)).tolist()
    return Outcome(
        deployment.partitions, exponent, float(used.mean()), float(used.max()), float(used.min()), p50, p99, max(lags)
    )


def _largest_lag(arrivals: Floats, done: Floats) -> int:
    """Records of a partition that have arrived and are not committed, at the worst moment."""
    committed = np.maximum.accumulate(done)
    return int((np.arange(1, len(arrivals) + 1) - np.searchsorted(committed, arrivals, side="right")).max())


def batch_rate(costs: UnitCosts) -> float:
    """Images a second of the measured machine, whose cores also do all the rest.

    All photos wait from the beginning, the largest first, as in the suite. Their mean cost is the measured one.
    """
    rest = sum(costs.others.values())
    each = np.sort(service_times(costs.render, costs.photos, np.random.default_rng(1)))[::-1] + rest
    each *= costs.photos * (costs.render + rest) / each.sum()
    load = Load(np.zeros(costs.photos), [0] * costs.photos, each)
    return costs.photos / float(finished(Deployment(1, 1, costs.cores), load).max())


def check(costs: UnitCosts) -> dict[str, float]:
    """A simulated point beside the measured one."""
    simulated = batch_rate(costs)
    return {
        "measured": costs.measured_rate,
        "simulated": simulated,
        "error": simulated / costs.measured_rate - 1,
    }


def cost_of(costs: UnitCosts) -> float:
    """Core seconds of an image on the machine of a processor: its rendering, and the processor's own work."""
    return costs.render + costs.others["processor"]


def processors_for(rate: float, utilisation: float, workers: int, costs: UnitCosts) -> int:
    """Processors of this many workers that the rate keeps busy to this share."""
    return math.ceil(rate * cost_of(costs) / utilisation / workers)


def simulations(
    rate: float, utilisation: float, workers: int, owners: int, seconds: float, costs: UnitCosts
) -> list[Outcome]:
    """The outcome for each number of partitions and each exponent, on as many processors as the utilisation needs."""
    processors, cost = processors_for(rate, utilisation, workers, costs), cost_of(costs)
    outcomes = []
    for exponent in EXPONENTS:
        for partitions in PARTITIONS:
            deployment = Deployment(partitions, processors, workers)
            load = offered(deployment, rate, seconds, cost, owners, exponent)
            outcomes.append(simulate(deployment, load, seconds, exponent))
    return outcomes


def table(outcomes: Sequence[Outcome]) -> Table:
    """The outcomes, for people."""
    shown = Table("exponent", "partitions", "utilisation", "busiest", "idlest", "p50 s", "p99 s", "largest lag")
    for each in outcomes:
        used = (f"{value:.0%}" for value in (each.utilisation, each.busiest, each.idlest))
        delays = (f"{each.p50:.1f}", f"{each.p99:.1f}", f"{each.largest_lag:,}")
        shown.add_row(f"{each.exponent:g}", str(each.partitions), *used, *delays)
    return shown


def main(
    rate: Annotated[float, typer.Option(help="Images a second of all owners together.")] = 10.0,
    utilisation: Annotated[float, typer.Option(help="Share of the render processes that this rate keeps busy.")] = 0.6,
    workers: Annotated[int, typer.Option(help="Render processes of each processor.")] = 4,
    owners: Annotated[int, typer.Option(help="Owners that send images.")] = 10_000,
    seconds: Annotated[float, typer.Option(help="Simulated time.")] = 3_600.0,
    results: Annotated[Path, typer.Option(help="File with the results of the suite.")] = LATEST,
    output: Annotated[Path, typer.Option(help="File for the result, as JSON.")] = CAPACITY,
) -> None:
    """Simulate partitions and processors with the costs of the last `make bench`, and compare with what it measured."""
    costs = unit_costs(load(results))
    if costs is None:
        raise ConfigurationError("there are no unit costs yet: run `make bench`")
    outcomes = simulations(rate, utilisation, workers, owners, seconds, costs)
    checked = check(costs)
    console = result_console()
    console.print(table(outcomes))
    console.print(
        f"A batch on the measured machine: {checked['simulated']:.2f} images/s simulated, {checked['measured']:.2f} "
        f"measured ({checked['error']:+.0%})"
    )
    found = {
        "rate": rate,
        "owners": owners,
        "seconds": seconds,
        "processors": processors_for(rate, utilisation, workers, costs),
        "workers": workers,
        "check": checked,
        "outcomes": [asdict(each) for each in outcomes],
    }
    output.write_text(json.dumps(rounded(found), indent=1) + "\n")
    Console(stderr=True, highlight=False).print(f"Written: {output}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(main)
    run(app)
