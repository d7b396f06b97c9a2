"""Answers to errors, request ids and traces, log lines, and the description of the API."""

import re
from html import escape
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from gateway.app import create_app
from gateway.http.problems import PROBLEM_JSON, PROBLEM_TYPES
from gateway.http.target import target_problem
from gateway.receiving.body import Pace
from gateway.services.waiting import wait_of
from shared.contract.keys import command_version
from shared.observability.metrics import Service, exposition
from shared.settings import Settings
from tests.support.images import encode, photo
from tests.support.memory.gateway import BASE_URL, MemoryGateway

PNG = encode(photo(40, 30), "PNG")


async def test_an_unexpected_error_is_a_problem_document(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = MemoryGateway()

    def fail(*_: object, **__: object) -> None:
        raise ValueError("secret")

    monkeypatch.setattr(gateway.store, "put", fail)
    structlog.reset_defaults()
    with capture_logs() as lines:
        async with gateway.client() as client:
            answer = await client.post("/upload", files={"image": ("a.png", PNG)}, headers={"X-Request-ID": "r-1"})

    [line] = [line for line in lines if line["event"] == "unexpected_error"]
    assert isinstance(line["exc_info"], ValueError)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] == "r-1"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nothing", 404, "no_such_page"), ("PATCH", "/images", 405, "method_not_allowed")],
)
async def test_paths_and_methods_that_are_not_there_are_problems(
    method: str, path: str, status: int, code: str
) -> None:
    async with MemoryGateway().client() as client:
        answer = await client.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"{BASE_URL}/problems/{code}"
    if status == 405:
        assert set(answer.headers["allow"].split(", ")) >= {"GET", "POST", "PUT", "DELETE"}


@pytest.mark.parametrize("code", PROBLEM_TYPES)
async def test_every_problem_has_a_page(code: str) -> None:
    async with MemoryGateway().client() as client:
        answer = await client.get(f"/problems/{code}")
        index = await client.get("/problems")

    assert answer.status_code == 200
    assert escape(PROBLEM_TYPES[code].title) in answer.text
    assert f"problems/{code}" in index.text


async def test_no_page_repeats_what_was_asked_for() -> None:
    async with MemoryGateway().client() as client:
        answer = await client.get("/problems/<script>alert(1)</script>")

    assert answer.status_code == 404
    assert "script" not in answer.text


@pytest.mark.parametrize("sent", ["r-1", "A" * 128, "a:b/c=d+e@f"])
async def test_a_request_id_is_taken_over(sent: str) -> None:
    async with MemoryGateway().client() as client:
        answer = await client.get("/problems", headers={"X-Request-ID": sent})

    assert answer.headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", [None, "", "A" * 129, 'a" b', "a\tb"])
async def test_an_id_that_could_do_harm_is_replaced(sent: str | None) -> None:
    async with MemoryGateway().client() as client:
        answer = await client.get("/problems", headers={"X-Request-ID": sent} if sent is not None else {})

    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])


async def test_a_request_is_one_log_line_with_its_fields() -> None:
    gateway = MemoryGateway()
    structlog.reset_defaults()
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        async with gateway.client() as client:
            answer = await client.post("/images?user_id=1", files={"image": ("a.png", PNG)})

    [line] = [line for line in lines if line["event"] == "request"]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/images", 202)
    assert (line["owner"], line["image_id"]) == ("user:1", answer.json()["image_id"])
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["bytes_in"] > len(PNG)
    assert line["bytes_out"] == len(answer.content)
    assert line["duration_ms"] > 0


async def test_untrusted_methods_and_paths_become_no_metric_label() -> None:
    async with MemoryGateway().client() as client:
        await client.request("BREW", "/coffee/1")
        await client.get("/images/made-up")

    families = exposition(Service.GATEWAY).decode()
    assert 'imagepipe_gateway_requests_total{method="other",route="none",status="404"}' in families
    assert 'route="/images/{image_id}"' in families
    assert not re.search("BREW|coffee|made-up", families)


async def test_the_appended_command_is_logged_as_the_other_services_call_it() -> None:
    gateway = MemoryGateway()
    structlog.reset_defaults()
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        async with gateway.client() as client:
            answer = await client.post("/upload?user_id=1", files={"image": ("a.png", PNG)})

    [line] = [line for line in lines if line["event"] == "command_appended"]
    assert (line["image_id"], line["owner"]) == (answer.json()["image_id"], "user:1")
    assert (line["type"], line["version"]) == ("image.uploaded", str(command_version(1, line["offset"])))
    assert line["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        ("nonsense", False),
        (None, False),
    ],
)
async def test_the_callers_trace_goes_on_in_the_log(sent: str | None, kept: bool) -> None:
    gateway = MemoryGateway()
    seen: list[str | None] = []
    append = gateway.log.append

    async def watch(command: Any, *, traceparent: str | None = None) -> Any:
        seen.append(traceparent)
        return await append(command)

    gateway.log.append = watch  # type: ignore[method-assign]
    async with gateway.client() as client:
        headers = {"traceparent": sent} if sent else {}
        await client.post("/upload", files={"image": ("a.png", PNG)}, headers=headers)

    [found] = seen
    assert found is not None
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", found)
    assert (found == sent) == kept


@pytest.mark.parametrize(
    ("elapsed", "received", "seconds"),
    [(0, 0, 10), (4, 0, 6), (12, 0, -2), (5, 1_000_000, 10), (100, 1000 * 95, 5)],
)
def test_a_sender_has_as_much_time_as_its_bytes_have_earned(elapsed: float, received: int, seconds: float) -> None:
    assert Pace(idle=10, min_rate=1000).time_left(elapsed, received) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], 0),
        (["wait=5"], 5),
        (["respond-async, wait=5"], 5),
        (["Wait = 5; x=y"], 5),
        (['wait="5"'], 5),
        (["wait=100"], 30),
        (["wait=31"], 30),
        (["wait=99999999999"], 30),
        (["wait=" + "9" * 5000], 30),
        (["wait=-1"], 0),
        (["wait=soon"], 0),
        (["await=5"], 0),
        (["handling=lenient", "wait=2"], 2),
    ],
)
def test_a_preference_is_read_or_ignored(headers: list[str], seconds: float) -> None:
    assert wait_of(headers, Settings.model_fields["max_wait"].default) == seconds


def test_every_operation_is_described_with_its_problems() -> None:
    schema = create_app(MemoryGateway().services).openapi()

    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert PROBLEM_JSON in answer["content"], (method, path, status)


def test_every_problem_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "api.md").read_text()

    rows = [f"| `{code}` | {kind.status} | {kind.title} |" for code, kind in PROBLEM_TYPES.items()]
    assert [row for row in rows if row not in text] == []


async def test_the_docs_load_nothing_from_other_hosts() -> None:
    async with MemoryGateway().client() as client:
        page = await client.get("/docs")
        linked = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", page.text)
        answers = {name: await client.get(f"/{name}") for name in linked}

    assert linked == ["docs/swagger-ui.css", "docs/favicon-32x32.png", "docs/swagger-ui-bundle.js", "openapi.json"]
    assert {answer.status_code for answer in answers.values()} == {200}
    assert len(answers["docs/swagger-ui-bundle.js"].content) > 1_000_000
    assert "//" not in re.sub(r"<!--.*?-->", "", page.text)
    assert '"validatorUrl": null' in page.text
    assert "http" not in page.headers["content-security-policy"]


async def test_every_path_that_has_get_has_head() -> None:
    app = create_app(MemoryGateway().services)
    paths = [*app.openapi()["paths"], "/docs", "/docs/swagger-ui.css", "/openapi.json"]
    async with MemoryGateway().client() as client:
        answers = {path: await client.head(path.replace("{code}", "not_found")) for path in paths}

    refused = {path: answer.headers["allow"] for path, answer in answers.items() if answer.status_code == 405}
    assert [path for path, allowed in refused.items() if "GET" in allowed] == []
    assert {answers[path].status_code for path in ("/docs", "/docs/swagger-ui.css", "/problems/{code}")} == {200}
    assert answers["/docs"].content == b""


@pytest.mark.parametrize("path", ["/problems%0A", "/docs%0A", "/images%0A", "/images?user_id=1"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_no_route_matches_a_path_with_a_line_feed_at_its_end(path: str, method: str) -> None:
    async with MemoryGateway().client() as client:
        answer = await client.request(method, path)

    assert (answer.status_code == 404) == path.endswith("%0A")


@pytest.mark.parametrize("query", ["user_id=%FF", "owner_type=user&owner_id=jos%E9", "limit=1&x=%C3%28"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/upload"), ("POST", "/images"), ("PUT", "/images"), ("DELETE", "/images"), ("GET", "/images"),
     ("POST", "/credentials")],
)  # fmt: skip
async def test_a_query_that_is_not_utf_8_is_refused(method: str, path: str, query: str) -> None:
    """Decoded with replacement characters, `%FF` and `%FE` would be the same owner."""
    gateway = MemoryGateway()
    async with gateway.client() as client:
        files = {"image": ("a.png", PNG)} if method in ("POST", "PUT") else None
        answer = await client.request(method, f"{path}?{query}", files=files)

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert answer.headers["x-request-id"]
    assert gateway.log.commands == []


def test_a_query_with_raw_bytes_is_refused() -> None:
    """The framework would read these bytes as Latin-1."""
    problem = target_problem("/images", "user_id=jos\u00e9".encode())

    assert problem is not None
    assert problem.code == "bad_request"


async def test_two_owners_in_utf_8_stay_two_owners() -> None:
    async with MemoryGateway().client() as client:
        for name in ("jos%C3%A9", "jos%C3%A8"):
            await client.post(f"/images?user_id={name}", files={"image": ("a.png", PNG)})
        listed = await client.get("/images?user_id=jos%C3%A9")

    assert [image["owner_id"] for image in listed.json()] == ["jos\u00e9"]


@pytest.mark.parametrize("path", ["/redoc", "/docs/__init__.py", "/docs/..%2fmain.py"])
async def test_nothing_else_is_served_beside_the_docs(path: str) -> None:
    async with MemoryGateway().client() as client:
        answer = await client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_page")
