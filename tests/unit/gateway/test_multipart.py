"""Multipart forms: what is read, what is refused, and that nothing depends on where the stream is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.problems import Problem
from gateway.receiving.multipart import MAX_FIELD_BYTES, MAX_FIELDS, Form, FormLimits, FormReader, boundary_of
from gateway.services.admission import Admission

BOUNDARY = "x-boundary"
LIMIT = 1000
ONE = FormLimits(LIMIT, 1)
MANY = FormLimits(LIMIT, 3)


def part(disposition: str, data: bytes) -> bytes:
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + data + b"\r\n"


def file_part(data: bytes, name: str = "a.png") -> bytes:
    return part(f'name="image"; filename="{name}"', data)


END = f"--{BOUNDARY}--\r\n".encode()


def read(body: bytes, limits: FormLimits = ONE, step: int = 64, memory: int = 1_000_000) -> Form:
    with Admission(1, memory).admit("192.0.2.1") as reservation:
        reader = FormReader(BOUNDARY, limits, reservation)
        for start in range(0, len(body), step):
            reader.feed(body[start : start + step])
        return reader.finish()


def code_of(body: bytes, limits: FormLimits = ONE, **options: int) -> str:
    with pytest.raises(Problem) as caught:
        read(body, limits, **options)
    return caught.value.code


@given(data=st.binary(max_size=LIMIT), step=st.integers(1, 200))
def test_a_file_and_its_fields_arrive_wherever_the_stream_is_cut(data: bytes, step: int) -> None:
    form = read(part('name="user_id"', b"1") + file_part(data) + END, step=step)

    assert form.fields == [("user_id", "1")]
    assert [(file.name, file.data) for file in form.files] == [("a.png", data)]


@pytest.mark.parametrize("preamble", [b"\r\n", b"preamble\r\n", b"\r\r\n", b"--x-bound\r\n", b"-" * 30 + b"\r\n"])
def test_preamble_is_ignored_wherever_the_stream_is_cut(preamble: bytes) -> None:
    body = preamble + file_part(b"abc") + END
    assert [read(body, step=step).files[0].data for step in range(1, len(body) + 1)] == [b"abc"] * len(body)


@pytest.mark.parametrize("preamble", [b"x", b"preamble of some length", b"preamble\n", b"preamble\r", b"-", b"\r\n-"])
def test_first_boundary_within_a_line_is_refused_wherever_the_stream_is_cut(preamble: bytes) -> None:
    """Without the field in the first part, the file would belong to no owner."""
    body = preamble + part('name="user_id"', b"1") + file_part(b"abc") + END
    assert {code_of(body, step=step) for step in range(1, len(body) + 1)} == {"malformed_form"}


@pytest.mark.parametrize(
    "header", ["X: a\nb", "\nX: a", "X: a\r\n b\nc", 'Content-Disposition: form-data; name="a\nb"']
)
def test_line_feed_in_a_header_is_refused_wherever_the_stream_is_cut(header: str) -> None:
    body = file_part(b"abc").replace(b"\r\n", f"\r\n{header}\r\n".encode(), 1) + END
    assert {code_of(body, step=step) for step in range(1, len(body) + 1)} == {"malformed_form"}


def test_exactly_the_limit_is_accepted_and_one_byte_more_is_not() -> None:
    assert read(file_part(b"x" * LIMIT) + END).files[0].data == b"x" * LIMIT
    assert code_of(file_part(b"x" * (LIMIT + 1)) + END) == "file_too_large"


def test_a_file_above_the_limit_stops_the_reading_before_its_end() -> None:
    with Admission(1, 10_000).admit("192.0.2.1") as reservation:
        reader = FormReader(BOUNDARY, ONE, reservation)
        reader.feed(file_part(b"x" * LIMIT)[:-2])
        with pytest.raises(Problem, match="at most 1000 bytes"):
            reader.feed(b"x")


def test_in_a_batch_only_the_file_above_the_limit_is_dropped() -> None:
    form = read(
        file_part(b"a", "1.png") + file_part(b"x" * (LIMIT + 1), "2.png") + file_part(b"c", "3.png") + END, MANY
    )

    assert [(file.name, file.data) for file in form.files] == [("1.png", b"a"), ("2.png", None), ("3.png", b"c")]


def test_memory_of_a_dropped_file_is_given_back() -> None:
    with Admission(1, 10_000).admit("192.0.2.1") as reservation:
        reader = FormReader(BOUNDARY, MANY, reservation)
        reader.feed(file_part(b"abc") + file_part(b"x" * 500)[:-2])
        reader.feed(b"x" * 600)

        assert reservation.size == 3


def test_files_that_hold_too_much_memory_are_refused_while_they_come() -> None:
    assert code_of(file_part(b"x" * 900) + END, memory=500) == "saturated"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (file_part(b"x"), "malformed_form"),
        (file_part(b"x")[:40], "malformed_form"),
        (b"", "malformed_form"),
        (b"--other\r\n", "malformed_form"),
        (file_part(END), "malformed_form"),
        (file_part(END) + END, "malformed_form"),
        (b'{"incoming": "x"}', "malformed_form"),
        (f"--{BOUNDARY}\r\n\r\nx\r\n".encode() + END, "malformed_form"),
        (file_part(b"x") + file_part(b"y") + END, "too_many_files"),
        (part('name="avatar"; filename="a.png"', b"x") + END, "bad_request"),
        (part('name="user_id"', b"\xff\xfe") + END, "malformed_form"),
        (part('name="user_id"', b"1" * (MAX_FIELD_BYTES + 1)) + END, "body_too_large"),
        (part('name="f"', b"1") * (MAX_FIELDS + 2) + END, "body_too_large"),
        (part('name="f"', b"1") * 10_000 + END, "body_too_large"),
        (part('name="' + "f" * 10_000 + '"', b"1") + END, "body_too_large"),
    ],
)
def test_each_error_in_a_form_has_its_problem(body: bytes, code: str) -> None:
    assert code_of(body) == code


def test_too_many_files_are_refused_when_the_first_too_many_begins() -> None:
    assert code_of(file_part(b"x") * 4 + END, MANY) == "too_many_files"


def test_a_file_input_left_alone_is_no_file() -> None:
    assert read(part('name="image"; filename=""', b"") + END).files == []


def test_a_file_without_a_name_is_a_file() -> None:
    assert read(part('name="image"', b"abc") + END).files[0].data == b"abc"


def test_bytes_after_the_form_are_ignored() -> None:
    assert len(read(file_part(b"x") + END + b"epilogue" * 100).files) == 1


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        (None, "not_multipart"),
        ("application/json", "not_multipart"),
        ("multipart/mixed; boundary=x", "not_multipart"),
        ("multipart/form-data", "malformed_form"),
        ('multipart/form-data; boundary=""', "malformed_form"),
        ("multipart/form-data; boundary=" + "x" * 71, "malformed_form"),
        ("multipart/form-data; boundary=x\0\0", "malformed_form"),
    ],
)
def test_a_body_of_another_type_is_refused_unread(content_type: str | None, code: str) -> None:
    with pytest.raises(Problem) as caught:
        boundary_of(content_type)
    assert caught.value.code == code


def test_a_quoted_boundary_is_accepted() -> None:
    assert boundary_of('Multipart/Form-Data; charset=utf-8; boundary="a b"') == "a b"
