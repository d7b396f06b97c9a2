"""Writes the head of a response together with the first part of its body."""

import asyncio


class ResponseWriter:
    """What the cycle of one response writes to, in place of the transport of the connection.

    uvicorn writes the head by itself. Then each response takes two system calls of the gateway and two of the client,
    which are most of the time of a cached one. Here the head waits for the body, until the next turn of the loop.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._begun = False

    def write(self, data: bytes) -> None:
        """Write the head, or a part of the body."""
        if not self._begun:
            self._begun = True
            self._head = data
            asyncio.get_running_loop().call_soon(self._flush)
        elif self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines([head, data])
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close the transport when all is written."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the transport is closed, or will be when all is written."""
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._head is not None and not self._transport.is_closing():
            self._transport.write(self._head)
        self._head = None
