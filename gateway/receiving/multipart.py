"""Parses a multipart form as its bytes arrive, and enforces every limit on the stream."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import BytesIO

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserError,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from gateway.http.problems import Problem
from gateway.receiving.filenames import clean_name, sent_name
from gateway.services.admission import Reservation

FILE_FIELD = "image"
MAX_FIELDS = 20
"""Form fields in addition to the files. An owner needs two."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""Control characters that no value of a header may hold (RFC 9110, section 5.5)."""
MAX_FIELD_BYTES = 4096
"""An owner id of 128 characters has at most 512 bytes."""
OVERHEAD_BYTES = 64 * 1024
"""Bytes of the part headers and boundaries of a form within the other limits."""


@dataclass(frozen=True)
class FormLimits:
    """How large a form may be. With `files` of 1 a second file is an error."""

    file_bytes: int
    files: int

    @property
    def body_bytes(self) -> int:
        """Bytes of the largest body within the limits."""
        return self.file_bytes * self.files + OVERHEAD_BYTES + MAX_FIELDS * MAX_FIELD_BYTES


@dataclass(frozen=True)
class FormFile:
    """A file of the form. `data` is None if the file has more bytes than the limit."""

    name: str
    data: bytes | None


@dataclass
class Form:
    """The fields and the files of a form, each in order."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    files: list[FormFile] = field(default_factory=list)


class _Part:
    """The part that the parser is reading."""

    def __init__(self, segment: MultipartSegment) -> None:
        self.name: str = segment.name
        self.file_name: str | None = sent_name(segment.headerlist, segment.filename)
        self.is_file = self.name == FILE_FIELD or self.file_name is not None
        # A list of chunks would leave holes between those of other files, which stay with the process.
        self.content = BytesIO()
        self.size = 0
        self.too_large = False


class _Preamble:
    """Drops what comes before the first boundary, which must be at the start of a line (RFC 2046, section 5.1.1).

    The parser alone forgets the bytes that it has dropped. It then accepts or refuses a first boundary in the middle of
    a line, depending on where the network has cut the body.
    """

    def __init__(self, boundary: str) -> None:
        self._boundary = f"--{boundary}".encode()
        self._end = b"\r\n"
        self._complete = False

    def strip(self, chunk: bytes) -> bytes:
        """The part of the next chunk that belongs to the form, with the start of the first boundary.

        Raises Problem `malformed_form` if the first boundary is not at the start of a line.
        """
        if self._complete:
            return chunk
        seen = self._end + chunk
        before, boundary, after = seen.partition(self._boundary)
        if not boundary:
            self._end = seen[-len(self._boundary) - 1 :]
            return b""
        if not before.endswith(b"\r\n"):
            raise Problem("malformed_form", "the first boundary is not at the start of a line")
        self._complete = True
        return boundary + after


class _Parser(PushMultipartParser):  # type: ignore[misc]
    """The library's parser, which refuses a line feed within a header line wherever the network has cut the body.

    The library (2.0.1) refuses it only if the end of the header line has not arrived together with it.
    """

    def _on_segment_headerline(self, line: bytes) -> None:
        if b"\n" in line:
            raise ParserError("Invalid line break in segment header")
        super()._on_segment_headerline(line)


class FormReader:
    """Makes a Form of the chunks of a body; one per request. `reservation` counts the bytes that it keeps in memory."""

    def __init__(self, boundary: str, limits: FormLimits, reservation: Reservation) -> None:
        self._limits = limits
        self._reservation = reservation
        self._parser = _Parser(boundary, max_segment_count=MAX_FIELDS + limits.files)
        self._preamble = _Preamble(boundary)
        self._boundary = f"--{boundary}".encode()
        self._part: _Part | None = None
        self._file_parts = 0
        self.form = Form()

    def feed(self, chunk: bytes) -> None:
        """Parse the next chunk. Raises Problem."""
        form = self._preamble.strip(chunk)
        if self._parser.closed or not form:
            return
        try:
            for event in self._parser.parse(form):
                self._handle(event)
        except ParserLimitReached as error:
            raise Problem("body_too_large", f"the form is too large: {error}") from error
        except MultipartError as error:
            raise Problem("malformed_form", str(error)) from error

    def finish(self) -> Form:
        """The form, at the end of the body. Raises Problem `malformed_form` if the last boundary is missing."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise Problem("malformed_form", "the body ends before the form's last boundary") from error
        return self.form

    def _handle(self, event: MultipartSegment | bytes | None) -> None:
        if event is None:
            self._end_part()
        elif isinstance(event, bytes | bytearray):
            self._add(event)
        else:
            self._start_part(event)

    def _start_part(self, segment: MultipartSegment) -> None:
        self._part = part = _Part(segment)
        if not part.is_file:
            return
        if part.name != FILE_FIELD:
            raise Problem("bad_request", f"send files in the field {FILE_FIELD!r}")
        self._file_parts += 1
        if self._file_parts > self._limits.files:
            many = "one file" if self._limits.files == 1 else f"at most {self._limits.files} files"
            raise Problem("too_many_files", f"this request may have {many}")

    def _add(self, data: bytes | bytearray) -> None:
        part = self._part
        if part is None or part.too_large:
            return
        part.size += len(data)
        if not part.is_file and part.size > MAX_FIELD_BYTES:
            raise Problem("body_too_large", f"a form field has more than {MAX_FIELD_BYTES} bytes")
        if part.is_file and part.size > self._limits.file_bytes:
            self._drop(part, len(data))
            return
        self._reservation.grow(len(data))
        part.content.write(data)

    def _drop(self, part: _Part, last: int) -> None:
        """The file is too large. If other files may follow, drop its bytes and read on; otherwise stop here."""
        if self._limits.files == 1:
            raise too_large(self._limits.file_bytes)
        part.too_large = True
        part.content = BytesIO()
        self._reservation.shrink(part.size - last)

    def _end_part(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        data = None if part.too_large else part.content.getvalue()
        if data is not None and data.startswith(self._boundary):
            # The line end of the empty line can also belong to the boundary: the part may have no content, or this one.
            raise Problem("malformed_form", "a part begins with the boundary")
        if part.is_file:
            # A browser sends an empty part with an empty name for a file input in which the user chose no file.
            if part.file_name == "" and data == b"":
                self._file_parts -= 1
                return
            self.form.files.append(FormFile(clean_name(part.file_name), data))
        else:
            self.form.fields.append((part.name, _text(data or b"")))


def too_large(limit: int) -> Problem:
    """The problem of a file above the limit, in bytes."""
    return Problem("file_too_large", f"a file may have at most {limit} bytes")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Problem("malformed_form", "a form field is not UTF-8") from None


def boundary_of(content_type: str | None) -> str:
    """The boundary in a Content-Type header. Raises Problem `not_multipart`, `malformed_form`."""
    kind, options = parse_options_header(content_type or "")
    if kind != "multipart/form-data":
        raise Problem("not_multipart", f"the Content-Type is {kind or 'missing'}, not multipart/form-data")
    boundary: str = options.get("boundary", "")
    # RFC 2046 allows 1 to 70 characters. The parser leaves out control characters that follow them.
    valid = 1 <= len(boundary) <= 70 and boundary.isascii() and boundary.isprintable()
    if not valid or _CONTROL.search(content_type or ""):
        raise Problem("malformed_form", "the Content-Type has no valid boundary")
    return boundary


async def read_form(
    body: AsyncIterator[bytes], content_type: str | None, limits: FormLimits, reservation: Reservation
) -> Form:
    """Read a whole form. Raises Problem as soon as it finds an error or a limit that is exceeded."""
    reader = FormReader(boundary_of(content_type), limits, reservation)
    async for chunk in body:
        reader.feed(chunk)
    return reader.finish()
