"""Synonyms, regular expressions and lookup tables."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent.annotation import AnnotatedSlot
from intent.slot_rules import (
    RuleMatch,
    RuleMatcher,
    SlotRules,
    learned_synonyms,
    pattern_problems,
    rule_problems,
)
from intent.text import tokenize, tokenize_with_spans


def find(text: str, rules: SlotRules) -> list[RuleMatch]:
    return RuleMatcher(rules).find(text, tokenize_with_spans(text))


def test_a_regex_matches_in_any_case_and_without_the_white_space_around_it() -> None:
    rules = SlotRules(regexes=(("flight", r"\s[A-Z]{2}\d+\s?"),))
    assert find("take lh400 now", rules) == [RuleMatch("flight", 5, 10, "regex")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("to NEW york, now", ["NEW york"]),
        ("york new york new york", ["new york", "new york"]),
        ("straße of Zürich", ["Zürich"]),
        ("ein Zu\u0308rich", ["Zu\u0308rich"]),
        ("newyork yorknew", []),
        ("我在北京吗", ["北京"]),
    ],
)
def test_a_lookup_table_matches_whole_words_in_any_spelling(text: str, found: list[str]) -> None:
    rules = SlotRules(lookups=(("city", "New York"), ("city", "zürich"), ("city", "北京")))
    assert [text[match.start : match.end] for match in find(text, rules)] == found


def test_the_longest_entry_of_a_table_wins_and_tables_do_not_hide_each_other() -> None:
    rules = SlotRules(lookups=(("city", "york"), ("city", "york hill"), ("name", "york")))
    found = {(match.name, match.start, match.end) for match in find("at york hill", rules)}
    assert found == {("city", 3, 12), ("name", 3, 7)}


def test_features_say_where_a_match_begins_and_goes_on() -> None:
    matcher = RuleMatcher(SlotRules(regexes=(("zip", r"\d+"),), lookups=(("city", "new york"),)))
    tokens = tokenize_with_spans("10 new york")
    found = matcher.features(matcher.find("10 new york", tokens), tokens)
    assert matcher.names == ("city", "zip")
    assert found.tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]


def test_synonyms_give_one_value_to_many_spellings() -> None:
    slots = (AnnotatedSlot("city", 3, 12, value="New York"), AnnotatedSlot("city", 0, 2))
    rules = SlotRules(synonyms=(("NYC", "New York"),))
    rules += learned_synonyms([("to big apple", slots)])
    value_of = RuleMatcher(rules).value_of
    assert [value_of(text) for text in ("nyc", "ＮＹＣ", "Big  Apple", "to", "Rome")] == [
        *["New York"] * 3,
        "to",
        "Rome",
    ]


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a+)+b\1", r"(\w+\s?)+$"])
def test_a_pattern_that_takes_for_ever_finds_nothing(pattern: str) -> None:
    text = "a" * 3_000 + "!"
    assert find(text, SlotRules(regexes=(("x", pattern),))) == []


def test_of_a_pattern_that_takes_for_ever_its_author_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    matcher = RuleMatcher(SlotRules(regexes=(("order", r"(a+)+$"), ("size", "[0-9]+"))))
    for secret in ("b", "c"):
        text = "a" * 3_000 + secret
        matcher.find(text, tokenize_with_spans(text))
    (told,) = caplog.messages
    assert told.startswith("regex 'order', '(a+)+$' was stopped")
    assert "aaa" not in told


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "not a regular expression"),
        ("a{2,1}", "not a regular expression"),
        ("(" * 5_000 + ")" * 5_000, "not a regular expression"),
        ("a{1000000000}", "multiply"),
        ("a{1,1000000000}", "multiply"),
        ("a{ 00020001 }", "multiply"),
        ("((a{100}){100}){100}", "multiply"),
        ("a" * 10_001, "lookup table"),
        ("a*", "empty text"),
    ],
)
def test_a_pattern_that_cannot_serve_is_named(pattern: str, words: str) -> None:
    (problem,) = pattern_problems("x", pattern)
    assert words in problem


def test_counted_repeats_side_by_side_are_welcome() -> None:
    assert pattern_problems("uuid", r"[\da-f]{8}-(?:[\da-f]{4}-){3}[\da-f]{12}") == []
    assert pattern_problems("x", r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}") == []


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [("lookup", "city", " "), ("lookup", "a[b", "x"), ("synonym", " ", "x"), ("regex", "", "x")],
)
def test_a_rule_without_a_name_or_content_is_named(kind: str, name: str, text: str) -> None:
    assert rule_problems(kind, name, text)


pairs = st.lists(st.tuples(st.text(), st.text()), max_size=3).map(tuple)


@given(pairs, pairs, pairs)
def test_rules_survive_json(
    synonyms: tuple[tuple[str, str], ...],
    regexes: tuple[tuple[str, str], ...],
    lookups: tuple[tuple[str, str], ...],
) -> None:
    rules = SlotRules(synonyms, regexes, lookups)
    assert SlotRules.from_json(json.loads(json.dumps(rules.to_json()))) == rules


@given(st.text(max_size=30))
def test_every_text_with_words_is_found_in_itself(text: str) -> None:
    if words := tokenize(text):
        (match,) = find(text, SlotRules(lookups=(("all", text),)))
        assert tokenize(text[match.start : match.end]) == words
