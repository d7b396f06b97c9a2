"""Each problem of the gateway has a class; an answer of another server has one by its status."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from gateway.http.problems import PROBLEM_TYPES
from imagepipe_client import Conflict, InternalError, InvalidRequest, NotFound, Problem, Unavailable
from imagepipe_client.errors import BY_CODE, TEMPORARY_CODES, kind_of, problem_of, seconds_until

REPEATED = {"in_flight", "too_slow", "saturated", "too_many_listeners", "unavailable", "unknown_outcome"}


def test_every_problem_of_the_gateway_has_its_class() -> None:
    assert BY_CODE.keys() == PROBLEM_TYPES.keys()


def test_the_client_repeats_what_the_explanation_asks_to_repeat() -> None:
    assert TEMPORARY_CODES == REPEATED
    assert all(
        "again" in kind.explanation or "epeat" in kind.explanation
        for code, kind in PROBLEM_TYPES.items()
        if code in REPEATED
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFound),
        (409, Conflict),
        (418, InvalidRequest),
        (429, Unavailable),
        (500, InternalError),
        (504, Unavailable),
        (302, Problem),
    ],
)
def test_an_unknown_code_has_the_class_of_its_status(status: int, kind: type[Problem]) -> None:
    assert kind_of("added_later", status) is kind


def test_a_page_of_a_proxy_is_a_problem_too() -> None:
    request = httpx.Request("GET", "http://gateway/images")
    found = problem_of(httpx.Response(502, text="<h1>Bad Gateway</h1>", headers={"Retry-After": "3"}, request=request))
    assert (type(found), found.code, found.is_temporary, found.retry_after) == (Unavailable, "http_502", True, 3)
    assert "<h1>Bad Gateway</h1>" in str(found)


def test_members_and_the_request_id_are_kept() -> None:
    document = {"type": "", "title": "T", "status": 404, "detail": "D", "code": "render_failed", "error": {"type": "x"}}
    headers = {"Content-Type": "application/problem+json", "X-Request-ID": "r1"}
    found = problem_of(httpx.Response(404, json=document, headers=headers))
    assert (found.extra, found.request_id, str(found)) == ({"error": {"type": "x"}}, "r1", "T (404): D")


def test_retry_after_is_seconds_or_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert seconds_until("7") == 7
    assert 25 < (seconds_until(soon) or 0) <= 30
    assert seconds_until(None) is None
    assert seconds_until("soon") is None
