"""Brings each record to one of its ends: applied, skipped, dead-lettered, or the process stops (invariant 10)."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog

from indexer.handler import Barrier, ConsumedRecord, Handler
from indexer.metrics import RECORD_SECONDS, RECORDS, RETRIES
from shared.dead_letters import DeadLetterLimit, dead_letter_headers
from shared.errors import PoisonRecord, Unavailable
from shared.keys import command_version
from shared.patience import Patience
from shared.ports import DeadLetters
from shared.settings import Topic

log = structlog.get_logger()

SURPRISE_PAUSE_SECONDS = 0.1


class Delivery:
    """The policy around `Handler`.

    1. An engine is away: again after a pause, until `patience` has passed since the first failure; then the error is
       raised, the record stays uncommitted and the process ends for its supervisor.
    2. A command nobody can read is counted and skipped: dead-lettering commands is the processor's. An event nobody
       can read goes to the DLQ.
    3. Any other error, after `attempts` tries: to the DLQ, whichever topic it came from.
    4. A DLQ that is over its limit, or away for longer than `patience`, stops the process as in 1.
    """

    def __init__(
        self,
        handler: Handler,
        dead_letters: DeadLetters,
        limit: DeadLetterLimit,
        *,
        topic_names: Mapping[Topic, str],
        epoch: int,
        patience: timedelta,
        attempts: int,
    ) -> None:
        self._handler = handler
        self._dead_letters = dead_letters
        self._limit = limit
        self._topic_names = topic_names
        self._epoch = epoch
        self._patience = patience
        self._attempts = attempts

    async def deliver(self, record: ConsumedRecord, lower_settled: Barrier) -> None:
        """Return when the record is settled. Raises Unavailable, TooManyDeadLetters: the process must stop."""
        with RECORD_SECONDS.labels(record.topic).time():
            result = await self._deliver(record, lower_settled)
        RECORDS.labels(record.topic, result).inc()

    async def _deliver(self, record: ConsumedRecord, lower_settled: Barrier) -> str:
        patience = Patience(self._patience)
        surprises = 0
        while True:
            try:
                await self._handler.handle(record, lower_settled)
                return "applied"
            except Unavailable as error:
                RETRIES.labels(error.engine).inc()
                await patience.pause(error)
            except PoisonRecord as error:
                if record.topic is Topic.COMMANDS:
                    log.warning("command_skipped", **_place(record), error=str(error))
                    return "skipped"
                await self._bury(record, error, surprises + 1)
                return "dead_lettered"
            except Exception as error:
                surprises += 1
                if surprises >= self._attempts:
                    await self._bury(record, error, surprises)
                    return "dead_lettered"
                RETRIES.labels("unforeseen").inc()
                log.exception("record_failed", **_place(record), attempt=surprises)
                await asyncio.sleep(SURPRISE_PAUSE_SECONDS * 2**surprises)

    async def _bury(self, record: ConsumedRecord, error: Exception, attempts: int) -> None:
        self._limit.take()
        headers = dead_letter_headers(
            record.headers,
            topic=self._topic_names[record.topic],
            partition=record.partition,
            offset=record.offset,
            version=command_version(self._epoch, record.offset) if record.topic is Topic.COMMANDS else None,
            error=error,
            attempts=attempts,
        )
        log.error("record_dead_lettered", **_place(record), error=f"{type(error).__name__}: {error}")
        patience = Patience(self._patience)
        while True:
            try:
                await self._dead_letters.send(record.key, record.value, headers)
                return
            except Unavailable as outage:
                RETRIES.labels(outage.engine).inc()
                await patience.pause(outage)


def _place(record: ConsumedRecord) -> dict[str, object]:
    return {"topic": record.topic.value, "partition": record.partition, "offset": record.offset}
