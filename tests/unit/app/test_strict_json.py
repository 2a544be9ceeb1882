"""JSON that cannot make trouble later, and text that can be stored."""

import json
import math
import unicodedata
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from app.api.strict_json import MOST_CHARACTERS, MOST_NESTING, BadJson, CleanText, clean, parse

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(10**17) + 1, 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
)


@given(values, st.booleans())
def test_what_json_writes_is_read_back_equal(value: object, ascii_only: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=200))
def test_any_body_is_parsed_or_refused_and_never_an_error_of_ours(body: bytes) -> None:
    with suppress(BadJson):
        assert parse(body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{} {}",
        b"[1,]",
        b'{"a": 1, "a": 1}',
        b'[{"b": {"a": 1, "b": 2, "a": 3}}]',
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        b"1e400",
        b"[-1e999]",
        b"1" * 19,
        b"9" * 5000,
        b"\xff\xfe",
        b'"\xed\xa0\x80"',
        b'"\xc0\x80"',
        b"\xef\xbb\xbf{}",
        b'"\x00"',
        b'\xef\xbb\xbf"a"',
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-16-le"),
        '{"a": 1}'.encode("utf-32"),
        b"{}\x00",
        b"{}\x1a",
        b"{} //",
        b"{}\xc2\xa0",
        b"\x0c{}",
        b"[1e999999999]",
        b"[-1e400]",
        b"0x10",
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"1_000",
        "[\u0661]".encode(),
        b"True",
        b"'a'",
        b'"\\x41"',
        b'"\t"',
        b'"\xed\xa0\xbd\xed\xb8\x80"',  # CESU-8
        b'"\xf4\x90\x80\x80"',  # above U+10FFFF
        b'"\xf0\x80\x80\xaf"',  # overlong
        b'{"a": 1, "\\u0061": 2}',
        b"[" + b"[]," * 6000 + b"1]",
    ],
)
def test_what_is_not_strictly_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadJson):
        parse(body)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_has_a_limit(opening: bytes, closing: bytes) -> None:
    def nested(levels: int) -> bytes:
        return opening * levels + b"1" + closing * levels

    assert parse(nested(MOST_NESTING)) is not None
    for levels in (MOST_NESTING + 1, 100_000):
        with pytest.raises(BadJson, match="nested"):
            parse(nested(levels))


def test_brackets_in_a_string_are_no_nesting() -> None:
    text = '\\"' + "[{" * 500
    assert parse(json.dumps({"text": text}).encode()) == {"text": text}


def test_brackets_behind_a_string_that_never_ends_are_none() -> None:
    with pytest.raises(BadJson, match="not JSON"):
        parse(b'{"a": "' + b"[" * 100_000)


def test_a_refusal_never_quotes_the_body() -> None:
    for body in (b'{"my secret"', b'{"my secret": 1, "my secret": 2}'):
        with pytest.raises(BadJson) as refused:
            parse(body)
        assert "my secret" not in refused.value.detail


def test_finite_numbers_only() -> None:
    assert parse(b"[1e308, -0.0, 1e-400]") == [1e308, 0.0, 0.0]
    assert all(math.isfinite(one) for one in parse(b"[1.5, 2]"))


@given(st.text(max_size=60))
@example("  e\u0301  ")
def test_clean_text_stays_as_it_is_when_cleaned_again(text: str) -> None:
    try:
        cleaned = clean(text)
    except PydanticCustomError:
        return
    assert clean(cleaned) == cleaned
    assert cleaned == cleaned.strip() != ""
    assert unicodedata.is_normalized("NFC", cleaned)
    cleaned.encode()


@given(texts, st.sampled_from(["\x00", "\x1b", "\x08", "\ud800", "\udfff"]), texts)
def test_a_character_that_is_no_text_is_refused(before: str, bad: str, after: str) -> None:
    with pytest.raises(PydanticCustomError, match="no text"):
        clean(before + bad + after)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u200b", "\u00a0\u200d", "\ufeff"])
def test_text_that_nobody_can_see_is_empty(text: str) -> None:
    with pytest.raises(PydanticCustomError, match="empty"):
        clean(text)


def test_clean_text_keeps_lines_and_emoji() -> None:
    assert clean(" Hi!\r\n\tI am \U0001f469\u200d\U0001f680 ") == (
        "Hi!\r\n\tI am \U0001f469\u200d\U0001f680"
    )


@pytest.mark.parametrize("text", ["x" * (MOST_CHARACTERS + 1), "\U0001d15e" * MOST_CHARACTERS])
def test_a_text_is_not_longer_than_its_limit_also_once_composed(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(CleanText).validate_python(text)
