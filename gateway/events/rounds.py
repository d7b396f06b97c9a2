"""When listeners are woken: in rounds, so that sending to many of them takes at most half of the event loop's time."""

import asyncio

LONGEST_PAUSE = 0.05
"""Seconds between two rounds at most. A round may also be long because of other work of the process."""
SHORTEST_PAUSE = 0.001
"""A shorter round is followed by the next one without a pause. uvloop's timers count milliseconds."""


class Rounds:
    """Sets the events of asyncio for which listeners wait. Use it from one event loop.

    The first news after a quiet time is sent at once. What arrives during a round, and in a pause of the same length
    after it, is sent together in the next one. So one listener never waits, and a thousand get several events in one
    write: a write costs the gateway and the kernel much more than another event in it.
    """

    def __init__(self) -> None:
        self._next: set[asyncio.Event] = set()
        self._is_running = False

    def add(self, news: asyncio.Event) -> None:
        """Set it in the next round."""
        self._next.add(news)
        if not self._is_running:
            self._is_running = True
            # After the present callback, which may publish further events.
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        loop, woken = asyncio.get_running_loop(), self._next
        self._next = set()
        for news in woken:
            news.set()
        # The woken tasks run before the next callback, and uvloop writes to the sockets after all callbacks of an
        # iteration. So the round is over in the second callback from now.
        loop.call_soon(loop.call_soon, self._end, loop.time())

    def _end(self, began: float) -> None:
        loop = asyncio.get_running_loop()
        pause = min(loop.time() - began, LONGEST_PAUSE)
        if pause < SHORTEST_PAUSE:
            self._continue()
        else:
            loop.call_later(pause, self._continue)

    def _continue(self) -> None:
        if self._next:
            self._begin()
        else:
            self._is_running = False
