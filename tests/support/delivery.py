"""The delivery policy, as a test wants it."""

from datetime import timedelta

from shared.consuming.dead_letters import DeadLetterLimit
from shared.consuming.delivery import DeliveryPolicy
from shared.ports import DeadLetters
from shared.settings import Topic


def policy_of(
    dead_letters: DeadLetters, *, outage_seconds: float = 0, attempts: int = 1, limit: int = 60, prefix: str = ""
) -> DeliveryPolicy:
    """By default the first failure is the last one. `limit`: dead letters in a minute; `prefix`: of the topics."""

    def topic_name(topic: Topic) -> str:
        return f"{prefix}{topic}"

    return DeliveryPolicy(
        dead_letters,
        DeadLetterLimit(limit),
        topic_name=topic_name,
        outage_retry_limit=timedelta(seconds=outage_seconds),
        unexpected_error_attempts=attempts,
    )
