"""Times in a store's answers are read as boto reads them, only faster."""

from typing import Any

import pytest
from botocore.utils import parse_timestamp

from shared.s3.store import read_time


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T13:50:50.123Z",
        "2026-11-22T13:50:50Z",
        "Sun, 22 Nov 2026 13:50:50 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "1700000000",
        1700000000.5,
        "2026-11-22T13:50:50+02:00",
    ],
)
def test_every_form_means_what_it_meant(text: Any) -> None:
    assert read_time(text) == parse_timestamp(text)
    assert read_time(text).tzinfo is not None


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid timestamp"):
        read_time("yesterdayZ")
