"""What other users can choose is shown, but cannot steer a terminal or deceive a reader."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.kernel.text import clean, decode, name_a_few


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nginx", "nginx"),
        ("Grüße, Łódź, 東京, Ελλάδα, مرحبا", "Grüße, Łódź, 東京, Ελλάδα, مرحبا"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x9b31mred", "31mred"),
        ("two\nlines\r\nand\ta tab", "two lines  and a tab"),
        ("paragraph\u2029line\u2028", "paragraph line "),
        ("\u202egnp.exe", "gnp.exe"),
        ("\u2066isolated\u2069", "isolated"),
        ("pay\u200bpal\ufeff\u2060\u00ad", "paypal"),
        ("\u3164\u115f\u2800\ufe0f\U000e0101x", "x"),
        ("tag\U000e0041\U000e007f", "tag"),
        ("\x00\x7f", ""),
    ],
)
def test_shows_the_text_and_nothing_else(text, shown):
    assert clean(text) == shown


def test_bytes_that_are_no_utf_8_are_visible_as_replacement_characters():
    assert clean(decode(b"caf\xe9")) == "caf\ufffd"


def test_a_long_text_ends_in_an_ellipsis_at_the_limit():
    assert clean("a" * 300, 10) == "aaaaaaaaa…"
    assert clean("é" * 11, 10) == "é" * 9 + "…"
    assert clean("a" * 10, 10) == "a" * 10


@given(st.binary(max_size=400), st.integers(1, 60))
def test_no_bytes_leave_anything_that_steers_or_hides(raw, limit):
    shown = clean(decode(raw), limit)
    assert len(shown) <= limit
    for character in shown:
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    shown.encode("utf-8")


@given(st.text(max_size=400))
def test_cleaning_twice_changes_nothing(text):
    once = clean(text)
    assert clean(once) == once
    assert once.isprintable()


def test_a_few_names_are_named_and_the_others_counted():
    assert name_a_few(["a", "b"], 3) == "a, b"
    assert name_a_few(["a", "b", "c"], 2) == "a, b and 1 more"
    assert name_a_few(["a", "b"], 2, 1236) == "a, b and 1,234 more"
    assert name_a_few(["80: 3", "443: 2", "9: 1"], 2, between="; ") == "80: 3; 443: 2 and 1 more"
    assert name_a_few([], 2) == ""
