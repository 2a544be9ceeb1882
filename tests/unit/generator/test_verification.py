"""What was written must stand in the sentence that it was written from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.verification import is_supported, values_of, without_yes_or_no

FAMILY = "Family card (2 adults, up to 3 children): €49.90"
FEES = "Anna Berg sells tickets for €17.50 at shop.example/tickets, next to the big door."
DISKS = "We copy up to 500 GB for £39 and up to 2 TB for £59."
DOGS = "Dogs are not allowed in the halls."


@pytest.mark.parametrize(
    ("draft", "sentence"),
    [
        ("The family card for 2 adults and up to 3 children is €49.90.", FAMILY),
        ("Anna Berg sells tickets for €17.50 at shop.example/tickets.", FEES),
        ("Tickets for €17.50 at shop.example/tickets.", FEES),
        (DISKS, DISKS),
        ("Dogs are not allowed.", DOGS),
        ("Entry is 3 €per pupil.", "Entry is 3 € per pupil."),
    ],
)
def test_the_same_in_other_order_of_speech_is_supported(draft: str, sentence: str) -> None:
    assert is_supported(draft, sentence)


@pytest.mark.parametrize(
    ("draft", "sentence"),
    [
        ("The family card for 3 adults and up to 2 children is €49.90.", FAMILY),
        ("The family card is €49.90.", FAMILY),
        ("The family card for 2 adults and up to 3 children is $49.90.", FAMILY),
        ("Bert Berg sells tickets for €17.50 at shop.example/tickets.", FEES),
        ("Anna Berg sells tickets for €17.50 at shop.example/cards.", FEES),
        ("Anna Berg sells tickets for €17 at shop.example/tickets.", FEES),
        ("We copy up to 500 GB for £59.", DISKS),
        ("We copy up to 500 GB for £59 and up to 2 TB for £39.", DISKS),
        ("Dogs are allowed in the halls.", DOGS),
        ("Cats are not allowed in the halls.", DOGS),
        ("", DOGS),
    ],
)
def test_what_it_does_not_say_is_not(draft: str, sentence: str) -> None:
    assert not is_supported(draft, sentence)


def test_question_and_title_lend_words_but_no_values() -> None:
    assert not is_supported("Grown-ups pay €17.50 at Marenda.", "Grown-ups: €17.50")
    assert is_supported("Grown-ups pay €17.50 at Marenda.", "Grown-ups: €17.50", title="Marenda")
    assert not is_supported("On 5 May it is €17.50.", "It is €17.50.", asked="what on 5 May?")


def test_a_yes_or_a_no_is_taken_off() -> None:
    assert without_yes_or_no("No, dogs stay out.") == "Dogs stay out."
    assert without_yes_or_no("Yes: 3 €.") == "3 €."
    assert without_yes_or_no("Nobody knows.") == "Nobody knows."


@given(st.sampled_from([FAMILY, FEES, DISKS, DOGS]))
def test_a_sentence_supports_itself(sentence: str) -> None:
    assert is_supported(sentence, sentence)


@given(st.text(max_size=80), st.integers(0, 10**6))
def test_a_number_of_nowhere_is_never_supported(text: str, number: int) -> None:
    value = f"{number}77"
    if value not in values_of(text):
        assert not is_supported(f"{text} {value}", text)


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_is_too_strange(draft: str, sentence: str) -> None:
    assert is_supported(draft, sentence) in (True, False)
