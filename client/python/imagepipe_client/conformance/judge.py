"""Compares the final table of a consumer with what the cases serve."""

from collections.abc import Iterable, Mapping
from typing import Any

from imagepipe_client.conformance.cases import Case


def differences(cases: Iterable[Case], table: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """A sentence for each case that the table has wrong, and for each image that no case knows.

    `before` is the table of the consumer when it was killed. A sentence more says that it was right.
    """
    known = {case.image.id: case for case in cases}
    found = [
        f"{case.name} ({image_id}): {case.rule} The table has {_shown(table.get(image_id))}, "
        f"and must have {_shown(case.served)}.{_lost(before.get(image_id), case)}"
        for image_id, case in known.items()
        if table.get(image_id) != case.served
    ]
    return found + [f"unknown image ({each}): no event named it." for each in table if each not in known]


def _shown(served: Any) -> str:
    return "no entry" if served is None else str(served)


def _lost(before: Any, case: Case) -> str:
    right = case.served is not None and before == case.served
    return " The table had it before the consumer was killed and started again." if right else ""
