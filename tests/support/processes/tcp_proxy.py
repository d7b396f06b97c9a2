"""A TCP proxy on loopback that can stop forwarding or forward slowly, as a slow network or engine does."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

CHUNK = 4096


class Proxy:
    """Forwards to one server. Its methods may be called from any thread."""

    def __init__(self, target_url: str) -> None:
        address = urlsplit(target_url)
        self._target = (address.hostname or "", address.port or 80)
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pause = 0.0
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> str:
        """Listen; the URL to use instead of the target's."""
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    async def _listen(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def hold(self) -> None:
        """Forward nothing more: connections stay open, new ones are accepted, and no response arrives."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def release(self) -> None:
        """Forward again, beginning with the bytes that were held back."""
        self._pause = 0.0
        self._loop.call_soon_threadsafe(self._flowing.set)

    def drip(self, bytes_per_second: int) -> None:
        """Forward no faster than this, in either direction of each connection."""
        self._pause = CHUNK / bytes_per_second

    def stop(self) -> None:
        """Close every connection."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._forward(reader, there_writer))
                ways.create_task(self._forward(there_reader, writer))
        except* OSError:
            pass  # One side has closed its connection, so the other is closed too.
        finally:
            writer.close()
            there_writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await asyncio.sleep(self._pause)
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()


@contextmanager
def proxy_to(target_url: str) -> Iterator[tuple[Proxy, str]]:
    """A running proxy and its URL."""
    proxy = Proxy(target_url)
    url = proxy.start()
    try:
        yield proxy, url
    finally:
        proxy.stop()
