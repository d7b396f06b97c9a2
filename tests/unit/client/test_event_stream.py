"""The parser of server-sent events, on bytes that the network cuts anywhere."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagepipe_client.event_stream import Message, Parser

STREAM = (
    b": hello\n\nid: p0\nretry: 2500\n\n"
    b'event: image.ready\r\ndata: {"a":\r\ndata: "x\xe2\x80\xa8\xc3\xbc"}\r\nid: p1\r\n\r\n'
    b"event: resync\rdata:{}\rid:p2\r\rdata: unfinished\n"
)
MESSAGES = [
    Message(),
    Message(position="p0", retry=2.5),
    Message("image.ready", '{"a":\n"x\u2028ü"}', "p1"),
    Message("resync", "{}", "p2"),
]


def test_messages_of_a_stream() -> None:
    assert Parser().feed(STREAM) == MESSAGES


@given(st.lists(st.integers(0, len(STREAM))))
def test_messages_do_not_depend_on_where_the_network_cuts(cuts: list[int]) -> None:
    parser = Parser()
    places = [0, *sorted(cuts), len(STREAM)]
    found = [message for start, end in pairwise(places) for message in parser.feed(STREAM[start:end])]
    assert found == MESSAGES


@pytest.mark.parametrize("line", [b"retry: soon\n\n", b"unknown: 1\n\n", b"nothing\n\n"])
def test_unknown_lines_are_ignored(line: bytes) -> None:
    assert Parser().feed(line) == [Message()]
