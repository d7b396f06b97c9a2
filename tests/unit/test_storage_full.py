"""A store without room, as S3 servers say it: an outage, told at once, and never anything about the object."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from aiohttp import web
from pydantic import SecretStr

from shared.errors import Unavailable
from shared.storage import ATTEMPTS, S3Store
from tests.gateway import memory_settings

ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>no room</Message></Error>"


class FullServer:
    """Answers every request as a server without room does."""

    def __init__(self) -> None:
        self.requests = 0
        self.status = 507
        self.code = "XMinioStorageFull"

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.requests += 1
        return web.Response(status=self.status, text=ERROR.format(code=self.code), content_type="application/xml")


@pytest.fixture
def server() -> FullServer:
    return FullServer()


@pytest.fixture
async def store(server: FullServer) -> AsyncIterator[S3Store]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    settings = memory_settings(
        s3_endpoint_url=f"http://127.0.0.1:{port}",
        s3_access_key_id="a",
        s3_secret_access_key=SecretStr("b"),
        s3_timeout=timedelta(seconds=5),
    )
    found = S3Store.from_settings(settings)
    yield found
    await found.close()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "code"),
    [(507, "XMinioStorageFull"), (503, "SlowDown"), (400, "QuotaExceeded"), (500, "InternalError")],
)
@pytest.mark.parametrize("if_absent", [True, False])
async def test_no_room_is_an_outage(
    store: S3Store, server: FullServer, status: int, code: str, if_absent: bool
) -> None:
    server.status, server.code = status, code
    with pytest.raises(Unavailable, match=code):
        await store.put("images/x", b"data", "image/png", if_absent=if_absent)
    assert server.requests <= ATTEMPTS
