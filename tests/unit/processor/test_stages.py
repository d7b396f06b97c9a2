"""How long the stages of a command take, and the time from its upload until it is ready."""

import time

import pytest

from processor.consuming.delivery import Delivery, parse
from processor.handler import Handler
from processor.rendering.render import Rendering
from processor.stages import collected, stage
from shared.consuming.record import ConsumedRecord
from shared.contract.encoding import encode
from shared.contract.events import Command, Event
from shared.contract.keys import Owner
from shared.contract.ladder import Ladder
from shared.contract.logged_command import LoggedCommand
from shared.observability.metrics import Service
from shared.settings import Topic
from tests.support import records
from tests.support.delivery import policy_of
from tests.support.memory.ports import MemoryDeadLetters, MemoryEventLog, MemoryStore
from tests.support.metric_samples import sample


def test_stages_are_collected_inside_the_block_including_failed_ones() -> None:
    before = sample(Service.PROCESSOR, 'imagepipe_processor_stage_seconds_count{stage="upload"}')
    with collected() as seconds:
        with stage("upload"):
            time.sleep(0.002)
        with pytest.raises(KeyError), stage("upload"):
            raise KeyError
    with stage("upload"):
        """Outside of every `collected` block."""

    assert seconds.keys() == {"upload"}
    assert seconds["upload"] >= 0.002
    assert sample(Service.PROCESSOR, 'imagepipe_processor_stage_seconds_count{stage="upload"}') == before + 3


class Answering(Handler):
    """Answers `ready`; renders first if `renders`."""

    def __init__(self, renders: bool) -> None:
        super().__init__(MemoryStore(), _no_render, MemoryEventLog(), records.BASE)
        self.renders = renders

    async def handle(self, logged: LoggedCommand) -> Event | None:
        if self.renders:
            with stage("render"):
                """As the pool would."""
        upload = records.uploaded()
        return records.ready(upload.image_id, upload.revision, logged.version)


async def _no_render(owner: Owner, data: bytes, ladder: Ladder) -> Rendering:
    raise AssertionError("nothing is rendered here")


@pytest.mark.parametrize(
    ("renders", "command", "observed"),
    [
        (True, records.uploaded(), 1),
        (False, records.uploaded(), 0),
        (True, records.reprocess(records.uploaded().image_id, 2, records.uploaded().revision, 2), 0),
    ],
    ids=["rendered now", "told once more", "reprocessed"],
)
async def test_time_until_ready_counts_uploads_that_were_rendered_now(
    renders: bool, command: Command, observed: int
) -> None:
    delivery = Delivery(Answering(renders), policy_of(MemoryDeadLetters()))
    names = ("imagepipe_processor_ready_seconds_count", "imagepipe_processor_ready_seconds_sum")
    count, total = (sample(Service.PROCESSOR, name) for name in names)
    await delivery.deliver(parse(ConsumedRecord(Topic.COMMANDS, 0, 1, b"k", encode(command), [], time.time() - 40), 1))

    assert sample(Service.PROCESSOR, names[0]) == count + observed
    assert sample(Service.PROCESSOR, names[1]) == pytest.approx(total + 40 * observed, abs=2)
