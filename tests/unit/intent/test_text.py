"""What counts as a word, in every script."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent.text import (
    MAX_TOKENS,
    MAX_WORD_CHARACTERS,
    build_vocabulary,
    is_invisible,
    ngram_hashes,
    normalize,
    tokenize,
    tokenize_with_spans,
)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


@given(st.text())
def test_tokens_are_never_empty_nor_hold_white_space(text: str) -> None:
    tokens = tokenize(text)
    assert len(tokens) <= MAX_TOKENS
    for token in tokens:
        assert token.split() == [token]
        assert len(token) <= MAX_WORD_CHARACTERS


@given(st.text(max_size=60))
def test_tokens_keep_every_visible_character_of_a_short_text(text: str) -> None:
    def visible(characters: str) -> str:
        return "".join(c for c in characters if not c.isspace() and (c.isprintable() or c == "�"))

    if all(len(word) <= MAX_WORD_CHARACTERS for word in normalize(text).split()):
        assert visible("".join(tokenize(text))) == visible(normalize(text))


@given(st.characters(codec="utf-8").map(str), st.integers(1, 50))
def test_every_word_has_ngrams(character: str, length: int) -> None:
    assert ngram_hashes(character * length)


def test_ngram_hashes_stay_the_same_for_ever() -> None:
    assert ngram_hashes("a") == [1874297515]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Where's my ORDER 42?", ["where", "'", "s", "my", "order", "4", "2", "?"]),
        ("Где мой заказ?", ["где", "мой", "заказ", "?"]),
        ("我的订单在哪里", ["我", "的", "订", "单", "在", "哪", "里"]),
        ("注文はどこ", ["注", "文", "は", "ど", "こ"]),
        ("أين طلبي؟", ["أين", "طلبي", "؟"]),
        ("नमस्ते जी", ["नमस्ते", "जी"]),
        ("hi 👋 there", ["hi", "👋", "there"]),
        ("", []),
        (" \t\n\x00\u200b", []),
    ],
)
def test_words_of_many_scripts(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("ｆｕｌｌ ｗｉｄｔｈ", "full width"),
        ("pass\u200bword", "password"),
        ("\u202eabc\u202c", "abc"),
        ("cafe\u0301", "café"),
        ("a  b", "a\u00a0b"),
        ("re\u200bfund", "refund"),
        ("r\u200ce\u200df\u2060u\ufeffn\u00add", "refund"),
        ("ｒｅｆｕｎｄ", "refund"),
        ("𝐫𝓮𝕗𝖚𝚗𝒅", "refund"),
        ("ⓡⓔⓕⓤⓝⓓ", "refund"),
        ("re\u202efund\u202c", "refund"),
        ("\u2067re\u2069\u2066fund\u2069", "refund"),
        ("\u061crefund\u200f", "refund"),
        ("re\U000e0066\U000e0075\U000e007ffund", "refund"),
        ("re\u3164fu\uffa0nd\u115f", "refund"),
        ("re\ufe0ffund\U000e0100", "refund"),
        ("re\u034ffund", "refund"),
        ("re\x7ffund", "refund"),
        ("re\x01fu\x9fnd", "refund"),
        ("a\tb\n c", "a b c"),
    ],
)
def test_spellings_that_look_alike_are_alike(one: str, other: str) -> None:
    assert normalize(one) == normalize(other)


def test_what_stands_in_the_middle_of_a_word_and_is_not_seen_does_not_part_it() -> None:
    for code in range(0x110000):
        character = chr(code)
        if is_invisible(character):
            assert tokenize(f"re{character}fund") == ["refund"], hex(code)


def test_text_that_is_only_shown_backwards_is_read_as_it_was_typed() -> None:
    assert tokenize("\u202ednufer\u202c") == ["dnufer"]


def test_letters_of_another_script_that_look_alike_stay_what_they_are() -> None:
    cyrillic = "r\u0435fund"  # see docs/decisions/0016
    assert tokenize(cyrillic) == [cyrillic]
    assert set(ngram_hashes("refund")) & set(ngram_hashes(cyrillic))


awkward = st.text(
    st.sampled_from(
        "aIß ﬁ½e\u0301\u0323\u200d\u200b\ufe0f👩👍🏽İΣſ각각ㅏｶﾞ\u1112\u1161\u11ab"
        "我कि़กำ\u00ad\u0958\ud800\n\x7f\x01\u3164\u034f\U000e0041"
    )
    | st.characters(),
    max_size=20,
)


@given(awkward)
def test_spans_belong_to_the_tokens_of_tokenize(text: str) -> None:
    assert [token for token, _, _ in tokenize_with_spans(text)] == tokenize(text)


@given(awkward)
def test_spans_lie_in_the_text_in_order(text: str) -> None:
    spans = [(start, end) for _, start, end in tokenize_with_spans(text)]
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    for (start, end), (next_start, next_end) in pairwise(spans):
        assert end <= next_start or (start, end) == (next_start, next_end)


@given(st.text("abcß我é 42!?", max_size=30))
def test_a_span_shows_what_its_token_was_read_from(text: str) -> None:
    for token, start, end in tokenize_with_spans(text):
        assert tokenize(text[start:end]) == [token]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("To ROME 42!", ["To", "ROME", "4", "2", "!"]),
        ("Große Straße", ["Große", "Straße"]),
        ("cafe\u0301 ﬁne", ["cafe\u0301", "ﬁne"]),
        ("pass\u200bword \u202eabc\u202c", ["pass\u200bword", "abc"]),
        ("½ l", ["½", "½", "½", "l"]),
        ("한국 我们", ["한국", "我", "们"]),
        ("\u1112\u1161\u11ab x", ["\u1112\u1161\u11ab", "x"]),  # one syllable of three parts
        ("x" * 50 + " y", ["x" * 50, "y"]),
    ],
)
def test_spans_of_changed_spellings(text: str, pieces: list[str]) -> None:
    found = tokenize_with_spans(text)
    assert [text[start:end] for _, start, end in found] == pieces
    assert [token for token, _, _ in found] == tokenize(text)


def test_half_a_surrogate_pair_is_text_like_any_other() -> None:
    assert tokenize("ab \ud800 c") == ["ab", "�", "c"]
    assert tokenize("\udfff")


def test_very_long_input_is_cut() -> None:
    assert len(tokenize("word " * 10_000)) == MAX_TOKENS
    assert tokenize("x" * 10_000) == ["x" * MAX_WORD_CHARACTERS]


def test_the_vocabulary_holds_frequent_words_in_a_stable_order() -> None:
    vocabulary = build_vocabulary([["b", "a"], ["b", "a", "c"]], min_count=2)
    assert vocabulary == build_vocabulary([["a", "b", "c"], ["a", "b"]], min_count=2)
    assert vocabulary.words == ("a", "b")
    assert [vocabulary.number(word) for word in ("a", "b", "c")] == [1, 2, 0]
