"""File names as sent by clients, friendly and hostile."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.receiving.filenames import MAX_BYTES, UNNAMED, clean_name, sent_name


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("dune.jpg", "dune.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\dune.jpg", "dune.jpg"),
        ("a/..", UNNAMED),
        ("..", UNNAMED),
        ("", UNNAMED),
        (None, UNNAMED),
        ("  dune.jpg  ", "dune.jpg"),
        ("a\r\nSet-Cookie: x=1.jpg", "aSet-Cookie: x=1.jpg"),
        ("a\x00b.png", "ab.png"),
        ("e\u0301te\u0301.jpg", "été.jpg"),
        ("\u202egpj.exe", "gpj.exe"),
        ("日本語 写真.webp", "日本語 写真.webp"),
        ('a"b;c.jpg', 'a"b;c.jpg'),
    ],
)
def test_names_are_made_safe_and_stay_readable(sent: str | None, kept: str) -> None:
    assert clean_name(sent) == kept


def test_a_long_name_keeps_its_extension_and_whole_characters() -> None:
    name = clean_name("é" * 300 + ".jpeg")

    assert name.endswith("é.jpeg")
    assert MAX_BYTES - 1 <= len(name.encode()) <= MAX_BYTES


@given(st.text(max_size=400))
def test_any_name_becomes_one_that_can_be_stored(sent: str) -> None:
    name = clean_name(sent)

    assert name
    assert name not in (".", "..")
    assert len(name.encode()) <= MAX_BYTES
    assert not any(char in "/\\" or unicodedata.category(char) in ("Cc", "Cs") for char in name)
    assert clean_name(name) == name


@pytest.mark.parametrize(
    ("disposition", "plain", "name"),
    [
        ("form-data; name=\"image\"; filename*=UTF-8''d%C3%BCne.jpg", "dune.jpg", "düne.jpg"),
        ("form-data; name=\"image\"; filename*=iso-8859-1'de'd%FCne.jpg", None, "düne.jpg"),
        ("form-data; name=\"image\"; filename*=nonsense''x%20.jpg", "plain.jpg", "plain.jpg"),
        ("form-data; name=\"image\"; filename*=UTF-8''%FF.jpg", "plain.jpg", "plain.jpg"),
        ("form-data; name=\"image\"; filename*=UTF\x00-8''x%20.jpg", "plain.jpg", "plain.jpg"),
        ("form-data; name=\"image\"; filename*=idna''xn--%80.jpg", "plain.jpg", "plain.jpg"),
        ("form-data; name=\"image\"; filename*=undefined''x%20.jpg", "plain.jpg", "plain.jpg"),
        ("form-data; name=\"image\"; filename*=unicode_escape''%5Cx41.jpg", "plain.jpg", "plain.jpg"),
        ('form-data; name="image"; filename="plain.jpg"', "plain.jpg", "plain.jpg"),
    ],
)
def test_extended_names_come_first_where_they_are_valid(disposition: str, plain: str | None, name: str) -> None:
    assert sent_name([("Content-Disposition", disposition)], plain) == name
