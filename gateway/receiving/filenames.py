"""Makes the file names that clients send safe to store, to show and to put into headers. Pure."""

import re
import unicodedata
from collections.abc import Iterable
from email.utils import decode_rfc2231
from urllib.parse import unquote

MAX_BYTES = 255
"""In UTF-8. Common file systems have this limit."""
UNNAMED = "unnamed"

_EXTENDED = re.compile(r";\s*filename\*\s*=\s*([^;\s]+)", re.IGNORECASE)
_CHARSETS = frozenset({"utf-8", "iso-8859-1"})
"""The charsets of RFC 5987. Python has codecs for many other names, some of which raise other errors than decoding."""
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of text. After one of them the name `gpj.exe` is shown as `exe.jpg`."""


def sent_name(headers: Iterable[tuple[str, str]], plain: str | None) -> str | None:
    """The file name in the headers of a part: `filename*` (RFC 5987, RFC 6266) if it is valid, else `plain`."""
    for name, value in headers:
        if name == "Content-Disposition" and (match := _EXTENDED.search(value)):
            return _decode_extended(match[1]) or plain
    return plain


def _decode_extended(value: str) -> str | None:
    charset, _language, encoded = decode_rfc2231(value.strip('"'))
    charset = (charset or "utf-8").lower()
    if charset not in _CHARSETS:
        return None
    try:
        return unquote(encoded, encoding=charset, errors="strict")
    except UnicodeDecodeError:
        return None


def clean_name(name: str | None) -> str:
    """The last path segment, in NFC, without control characters, cut to MAX_BYTES bytes; UNNAMED if it is empty."""
    normal = unicodedata.normalize("NFC", name or "")
    kept = "".join(char for char in normal if unicodedata.category(char) not in ("Cc", "Cs") and char not in _BIDI)
    last = re.split(r"[/\\]", kept)[-1].strip()
    if not last.strip("."):
        return UNNAMED
    return _shorten(last)


def _shorten(name: str) -> str:
    """Shorten the stem and keep the extension. Never cut within a character."""
    if len(name.encode()) <= MAX_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    suffix = f".{extension}" if dot and stem and len(extension.encode()) <= 16 else ""
    room = MAX_BYTES - len(suffix.encode())
    body = name[: -len(suffix)] if suffix else name
    return body.encode()[:room].decode(errors="ignore") + suffix
