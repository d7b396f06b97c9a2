"""Writes docs/capacity.md's tables from the last runs of `make bench` and `python -m bench.capacity`.

Without a run of the suite the page is left as it is: `python -m docs.generate.capacity`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from bench.unit_costs import OBJECTS, UnitBytes, UnitCosts, unit_bytes, unit_costs
from docs.generate.performance import ROOT, between, latest, result

PAGE = ROOT / "docs" / "capacity.md"
RATES: Final = (10, 1_000, 100_000)
"""Images a second."""
MILLION: Final = 1_000_000
UTILISATION: Final = 0.6
"""Share of each part that is busy at the stated rate. The rest is for peaks, and for a part that is restarted."""
NODE_CORES: Final = 16
REPLICAS: Final = {"kafka": 3, "cassandra": 3}
"""Copies in production. Each replica does the work that one copy was measured with."""
NAMES: Final = {"kafka": "Kafka", "cassandra": "Cassandra", "s3": "S3 store"}
RECORDS: Final = 2
"""Records of an image in the log: the command and its answer."""
PARTITIONS_PER_PROCESSOR: Final = 8
"""So that the hash spreads owners evenly: see the simulation."""
DAY: Final = 86_400
MONTH: Final = 30 * DAY


def tables(suites: Mapping[str, Any], ladders: Mapping[str, Any], simulated: Mapping[str, Any]) -> dict[str, str]:
    """The content of each pair of marks, by its name; empty without a run of the suite.

    The arguments are the content of `latest.json`, `frontier.json` and `capacity.json`.
    """
    costs = unit_costs(suites)
    if costs is None:
        return {}
    size = unit_bytes(ladders)
    found = {"costs": _costs(costs, size), "levels": _levels(costs, size), "limits": _limits(costs)}
    return found | ({"simulation": _simulation(simulated)} if simulated else {})


def page(text: str, content: Mapping[str, str]) -> str:
    """The page with these tables between its marks."""
    for name, table in content.items():
        text = between(text, f"<!-- {name} -->\n", f"<!-- end of {name} -->", table)
    return text


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = list(head)
    lines = [cells, ["---"] * len(cells), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def core_seconds(costs: UnitCosts) -> dict[str, float]:
    """Core seconds of one image by part, with all replicas."""
    others = {name: REPLICAS.get(name, 1) * seconds for name, seconds in costs.others.items()}
    return {"rendering": costs.render} | dict(sorted(others.items(), key=lambda part: -part[1]))


def _costs(costs: UnitCosts, size: UnitBytes) -> str:
    parts = core_seconds(costs)
    rows = [
        (_name(part), f"{1000 * seconds / REPLICAS.get(part, 1):,.0f} ms", _core_hours(seconds))
        for part, seconds in parts.items()
    ]
    alone, all_copies = costs.render + sum(costs.others.values()), sum(parts.values())
    rows += [
        ("all CPU time", f"{1000 * alone:,.0f} ms", f"**{_core_hours(all_copies)}**"),
        ("bucket", f"{size.s3 / 1e6:.2f} MB in {OBJECTS} objects", _bytes(MILLION * size.s3)),
        ("log", f"{size.kafka / 1e3:.1f} KB in {RECORDS} records", _bytes(MILLION * log_bytes(size))),
        ("index", f"{size.cassandra / 1e3:.1f} KB in 3 rows", _bytes(MILLION * index_bytes(size))),
    ]
    return _table(("", "one image, one copy", "a million images, 3 copies of log and index"), rows)


def _core_hours(seconds: float) -> str:
    return f"{MILLION * seconds / 3600:,.0f} core hours"


def log_bytes(size: UnitBytes) -> int:
    """Bytes of one image in the log, all copies together."""
    return size.kafka * REPLICAS["kafka"]


def index_bytes(size: UnitBytes) -> int:
    """Bytes of one image in the index, all copies together."""
    return size.cassandra * REPLICAS["cassandra"]


def _levels(costs: UnitCosts, size: UnitBytes) -> str:
    parts = core_seconds(costs)
    rows = [
        (f"cores: {_name(part)}", *(f"{math.ceil(rate * seconds / UTILISATION):,}" for rate in RATES))
        for part, seconds in parts.items()
    ]
    rows += [
        ("**cores, all**", *(f"**{math.ceil(rate * sum(parts.values()) / UTILISATION):,}**" for rate in RATES)),
        (f"nodes of {NODE_CORES} cores for processors", *(f"{processors(rate, costs):,}" for rate in RATES)),
        ("gateway processes", *(f"{_processes(rate, 1 / costs.others['gateway']):,}" for rate in RATES)),
        ("indexer processes", *(f"{_processes(RECORDS * rate, costs.indexer_records):,}" for rate in RATES)),
        ("partitions of each topic", *(f"{partitions(rate, costs):,}" for rate in RATES)),
        ("brokers", *(f"{_nodes(rate * parts['kafka']):,}" for rate in RATES)),
        ("Cassandra nodes", *(f"{_nodes(rate * parts['cassandra']):,}" for rate in RATES)),
        ("bucket, a day", *(_bytes(rate * DAY * size.s3) for rate in RATES)),
        ("log of 30 days, 3 copies", *(_bytes(rate * MONTH * log_bytes(size)) for rate in RATES)),
        ("index, a day, 3 copies", *(_bytes(rate * DAY * index_bytes(size)) for rate in RATES)),
    ]
    return _table(("", *(f"{rate:,} images/s" for rate in RATES)), rows)


def processors(rate: float, costs: UnitCosts) -> int:
    """Processors of NODE_CORES render processes, which also have to do the processor's own work."""
    seconds = costs.render + costs.others["processor"]
    return math.ceil(rate * seconds / UTILISATION / NODE_CORES)


def partitions(rate: float, costs: UnitCosts) -> int:
    """The next power of two that gives each processor its partitions, and at least the default of the setting."""
    return max(8, 1 << (PARTITIONS_PER_PROCESSOR * processors(rate, costs) - 1).bit_length())


def _processes(rate: float, of_one: float) -> int:
    """At least two, so that one can be restarted."""
    return max(2, math.ceil(rate / of_one / UTILISATION))


def _nodes(cores: float) -> int:
    """At least three, one for each replica."""
    return max(3, math.ceil(cores / UTILISATION / NODE_CORES))


def _limits(costs: UnitCosts) -> str:
    own = costs.others["processor"]
    owner, indexer = NODE_CORES / (costs.render + own), costs.indexer_records / RECORDS
    rows = [
        ("one processor", 1 / own, f"its own event loop; enough for {costs.render / own:,.0f} render processes"),
        ("one owner", owner, f"one partition, so one processor of {NODE_CORES} render processes"),
        ("one gateway process", 1 / costs.others["gateway"], "one core"),
        ("one indexer", indexer, f"{costs.indexer_records:,.0f} records/s, {RECORDS} for each image"),
        ("`imagepipe reindex`", costs.rebuild_records / RECORDS, _catching_up(costs.rebuild_records / RECORDS)),
        ("`imagepipe replay`", costs.replay_commands, _catching_up(costs.replay_commands)),
    ]
    head = ("part", "carries at most", "why")
    return _table(head, ((part, f"{images:,.0f} images/s", why) for part, images, why in rows))


def _catching_up(images: float) -> str:
    hours = (f"{rate * DAY / images / 3600:,.1f} hours at {rate:,} images/s" for rate in RATES[:2])
    return f"one process; a day of the log takes {' and '.join(hours)}"


def _simulation(found: Mapping[str, Any]) -> str:
    head = ("exponent", "partitions", "utilisation", "busiest processor", "idlest", "p50", "p99", "largest lag")
    rows = [
        (
            f"{each['exponent']:g}", f"{each['partitions']}",
            *(f"{each[name]:.0%}" for name in ("utilisation", "busiest", "idlest")),
            f"{each['p50']:,.1f} s", f"{each['p99']:,.1f} s", f"{each['largest_lag']:,}",
        )
        for each in found["outcomes"]
    ]  # fmt: skip
    checked = found["check"]
    return (
        f"{found['rate']:g} images/s of {found['owners']:,} owners for {found['seconds'] / 3600:g} h, on "
        f"{found['processors']} processors of {found['workers']} render processes.\n\n{_table(head, rows)}\n"
        f"The simulation against a measurement: the pipeline of the suite, a batch of photos on one small machine,\n"
        f"reached {checked['measured']:.2f} images/s. The simulation gives {checked['simulated']:.2f} images/s, "
        f"{abs(checked['error']):.0%} {'more' if checked['error'] > 0 else 'less'}.\n"
    )


def _name(part: str) -> str:
    copies = f", {REPLICAS[part]} copies" if part in REPLICAS else ""
    return NAMES.get(part, part) + copies


def _bytes(count: float) -> str:
    for unit, factor in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count / 1e6:,.1f} MB"


def results() -> dict[str, str]:
    """The tables of the last runs."""
    return tables(latest(), result("frontier.json"), result("capacity.json"))


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), results()))
