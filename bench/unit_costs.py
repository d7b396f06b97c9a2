"""What one image costs: CPU time from the figures of the suite, bytes from real records and from the named photos."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bench.records import SOURCE, answer, logged, upload
from shared.contract.encoding import encode
from shared.contract.headers import cloud_event_headers
from shared.read_model.tables import IMAGE_TABLES
from shared.settings import Settings

ORIGINAL_BYTES: Final = 1_100_000
"""An original: the mean of the 22 photos with which the published figures of the pipeline were measured."""
OBJECTS: Final = 7
"""Objects of an image in the bucket: the original, four variants, the manifest and the marker of the render."""
IDLE = "idle"
"""The part that engines and services use at any rate, also without an image. It is no cost of an image."""
PIPELINE, BESIDE = "render processes alone", "CPU of an image besides rendering"


@dataclass(frozen=True)
class UnitCosts:
    """Core seconds of one image for rendering, and by process for all the rest; rates of one process, a second.

    `others` leaves out what the processes use while they wait for work, which does not grow with the rate.
    `measured_rate` is the rate of the pipeline on that machine, which has `cores`.
    """

    render: float
    others: Mapping[str, float]
    cores: int
    measured_rate: float
    photos: int
    indexer_records: float
    rebuild_records: float
    replay_commands: float


@dataclass(frozen=True)
class UnitBytes:
    """Bytes that one image leaves. Those of Kafka and Cassandra are of one replica, before any compression."""

    original: float
    variants: float
    kafka: int
    cassandra: int

    @property
    def s3(self) -> float:
        """Bytes in the bucket. Its smaller objects, the manifest and the marker, count as what Kafka has."""
        return self.original + self.variants + self.kafka


def unit_costs(suites: Mapping[str, Any]) -> UnitCosts | None:
    """The unit costs of these reports, by suite; None if a suite was not run yet."""
    figures = {figure["name"]: figure for report in suites.values() for figure in report["figures"]}
    if not {"pipeline", "index"} <= suites.keys():
        return None
    cores = suites["pipeline"]["machine"]["cores"]
    whole = next(figure for name, figure in figures.items() if name.startswith("pipeline, "))
    return UnitCosts(
        render=cores / figures[PIPELINE]["value"],
        others={name: spent / 1000 for name, spent in figures[BESIDE]["parts"].items() if name != IDLE},
        cores=cores,
        measured_rate=whole["value"],
        photos=int(whole["name"].split()[1]),
        indexer_records=figures["indexer"]["value"],
        rebuild_records=figures["rebuild"]["value"],
        replay_commands=figures["replay of finished commands"]["value"],
    )


def unit_bytes(frontier: Mapping[str, Any]) -> UnitBytes:
    """Bytes of one image: those of the variants from this frontier, the others from a command and its answer."""
    settings = Settings()
    command = upload(0, settings)
    event = answer(logged(command, 0, settings), settings)
    kafka = sum(
        len(encode(record)) + sum(len(name) + len(value) for name, value in cloud_event_headers(record, SOURCE))
        for record in (command, event)
    )
    # Each of the rows has what the answer has.
    return UnitBytes(ORIGINAL_BYTES, _variant_bytes(frontier), kafka, len(IMAGE_TABLES) * len(encode(event)))


def _variant_bytes(frontier: Mapping[str, Any]) -> float:
    default = next(each for each in frontier["candidates"] if each["preset"] == "default")
    return float(statistics.mean(sum(photo["sizes"].values()) for photo in default["photos"].values()))
