"""The reader of multipart forms, on any bytes.

An input is a line that is the value of Content-Type, and then the body.

1. Only a Problem leaves the reader, with a code that the API documents for forms.
2. The result does not depend on where the stream of the body is cut.
3. The form is within its limits, and as many bytes are reserved as it holds.
4. The form, written again by the rules of RFC 7578, is read as the same form.
5. The `email` package of the standard library finds the same parts, where it reads lines as HTTP does.
"""

import itertools
import re
from collections.abc import Iterator
from email import policy
from email.parser import BytesParser
from random import Random

from gateway.http.problems import Problem
from gateway.receiving.filenames import MAX_BYTES, clean_name
from gateway.receiving.multipart import MAX_FIELD_BYTES, MAX_FIELDS, Form, FormLimits, FormReader, boundary_of
from gateway.services.admission import Admission

LIMITS = FormLimits(file_bytes=400, files=3)
MEMORY = 1200
SHORT = 300
CODES = {"bad_request", "body_too_large", "malformed_form", "saturated", "too_many_files"}
BOUNDARY = "x-boundary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)")


def check(data: bytes) -> None:
    """Raise if the property does not hold for a request with this Content-Type and body."""
    line, _, body = data.partition(b"\n")
    content_type = line.decode("latin-1")
    try:
        boundary = boundary_of(content_type)
    except Problem as problem:
        assert problem.code in ("not_multipart", "malformed_form"), problem.code
        return
    result = _read(boundary, body, max(1, len(body)))
    # Steps of one byte take most of the time, so only short bodies are read in them.
    for step in {1 if len(body) < SHORT else 11, 7, len(body) % 61 + 1}:
        again = _read(boundary, body, step)
        assert again == result, (step, result, again)
    if isinstance(result, Form):
        _check_limits(result)
        _check_written_again(result)
        _compare_with_email(content_type, boundary.encode(), body, result)


def _read(boundary: str, body: bytes, step: int) -> Form | str:
    """The form, or the code of the problem, if the body arrives in pieces of `step` bytes."""
    with Admission(1, MEMORY).admit("192.0.2.1") as reservation:
        reader = FormReader(boundary, LIMITS, reservation)
        try:
            for start in range(0, len(body), step):
                reader.feed(body[start : start + step])
            form = reader.finish()
        except Problem as problem:
            assert problem.code in CODES, problem.code
            return problem.code
        fields = sum(len(value.encode()) for _, value in form.fields)
        assert reservation.size == fields + sum(len(file.data or b"") for file in form.files)
        return form


def _check_limits(form: Form) -> None:
    assert len(form.files) <= LIMITS.files
    assert len(form.fields) <= MAX_FIELDS + LIMITS.files
    for _, value in form.fields:
        assert len(value.encode()) <= MAX_FIELD_BYTES
    for file in form.files:
        assert file.data is None or len(file.data) <= LIMITS.file_bytes
        assert 1 <= len(file.name.encode()) <= MAX_BYTES
        assert file.name == clean_name(file.name)
        assert not any(char in file.name for char in "/\\\r\n\0")


def _check_written_again(form: Form) -> None:
    """Form fields and files are two lists, so the order between them may change."""
    whole = [file for file in form.files if file.data is not None]
    contents = [*(value.encode() for _, value in form.fields), *(file.data or b"" for file in whole)]
    boundary = next(
        each
        for each in (f"again{number}" for number in itertools.count())
        if all(each.encode() not in c for c in contents)
    )
    names = [
        *(f'name="{_escaped(name)}"' for name, _ in form.fields),
        *(f'name="image"; filename="{_escaped(file.name)}"' for file in whole),
    ]
    body = b"".join(_part(boundary, name, content) for name, content in zip(names, contents, strict=True))
    again = _read(boundary, body + f"--{boundary}--\r\n".encode(), 50)
    assert isinstance(again, Form), (again, form)
    assert again.fields == form.fields, (again, form)
    assert [(file.name, file.data) for file in again.files] == [(file.name, file.data) for file in whole]


def _escaped(name: str) -> str:
    # As browsers do (the HTML standard, "multipart/form-data encoding algorithm").
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _part(boundary: str, disposition: str, content: bytes) -> bytes:
    return f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


def _compare_with_email(content_type: str, boundary: bytes, body: bytes, form: Form) -> None:
    """Compare the contents that are not empty: the reader leaves out a file input in which no file was chosen."""
    mentions = body.count(b"--" + boundary)
    if mentions != len(re.findall(rb"(?:^|(?<=\r\n))--" + re.escape(boundary) + rb"(?:--)?(?=\r\n|$)", body)):
        # For the reader "--boundary--" is the end of the form also in the middle of a line.
        return
    if BARE_LINE_END.search(body) or any(file.data is None for file in form.files):
        # In an e-mail a lone CR or LF ends a line too, in HTTP it does not.
        return
    head = b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n"
    parts = list(BytesParser(policy=policy.HTTP).parsebytes(head + body).iter_parts())
    if any(part.is_multipart() for part in parts):
        # RFC 7578 has no parts within parts.
        return
    found = []
    for part in parts:
        # RFC 7578 has no transfer encodings either: the bytes are the content.
        del part["Content-Transfer-Encoding"]
        found.append(part.get_payload(decode=True))
    read = [*(value.encode() for _, value in form.fields), *(file.data for file in form.files)]
    assert sorted(filter(None, read)) == sorted(filter(None, found)), (found, form)


def mutate(data: bytes, chance: Random) -> bytes:
    """Repeat a part, put a boundary at any place, or write the Content-Type that most inputs need."""
    line, _, body = data.partition(b"\n")
    delimiter = f"\r\n--{BOUNDARY}".encode()
    parts = body.split(delimiter)
    match chance.randrange(4):
        case 0:
            parts.insert(chance.randrange(len(parts) + 1), chance.choice(parts))
        case 1:
            place = chance.randrange(len(body) + 1)
            return b"\n".join(
                (line, body[:place] + delimiter + chance.choice((b"", b"\r\n", b"--\r\n")) + body[place:])
            )
        case 2:
            return b"\n".join((TYPE.encode(), body))
        case _:
            del parts[chance.randrange(len(parts))]
    return b"\n".join((line, delimiter.join(parts)))


def seeds() -> Iterator[bytes]:
    """Forms as browsers and command lines send them."""
    end = f"--{BOUNDARY}--\r\n".encode()
    head = f"{TYPE}\n".encode()
    image = _part(BOUNDARY, 'name="image"; filename="a.png"', b"\x89PNG\r\n\x1a\n")
    yield head + image + end
    yield head + _part(BOUNDARY, 'name="user_id"', b"1") + image + image + end
    yield head + _part(BOUNDARY, 'name="image"; filename=""', b"") + end
    yield head + _part(BOUNDARY, "name=\"image\"; filename*=UTF-8''%E2%82%AC.png", b"x" * 30) + end
    yield head + b"\r\n" + image + end + b"epilogue"
    yield head + _part(BOUNDARY, 'name="image"; filename="x%22y\\z.png"', b"-" * 401) + image + end
    yield head + image.replace(b"\r\n\r\n", b"\r\nContent-Type: image/png\r\nContent-Length: 8\r\n\r\n", 1) + end
    yield f'multipart/form-data; charset=utf-8; boundary="{BOUNDARY}"\n'.encode() + image + end
    yield b"application/json\n{}"
