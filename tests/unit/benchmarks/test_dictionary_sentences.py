"""A dictionary's lines become sentences."""

from benchmarks.dictionary_sentences import synset_sentences

LINE = (
    "02001858 35 v 02 cash 0 Pay_up 1 002 @ 02212825 v 0000 + 13279262 n 0101 "
    '01 + 08 00 | exchange for cash; "I cashed the check as soon as it arrived"  \n'
)


def test_a_synset_gives_its_definition_its_examples_and_its_lower_case_words() -> None:
    assert list(synset_sentences(LINE)) == [
        ("exchange for cash", "wordnet definition"),
        ("I cashed the check as soon as it arrived", "wordnet example"),
        ("cash", "wordnet lemma"),
    ]
