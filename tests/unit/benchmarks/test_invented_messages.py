import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.inflection import (
    agreeing,
    agreeing_statement,
    gerund,
    indirect,
    participle,
    past,
    with_articles,
)
from benchmarks.invented_messages import LEXICONS, Lexicon, invent, read_lexicon, write

LEXICON = read_lexicon(LEXICONS)


def test_the_same_seed_invents_the_same_messages_and_another_seed_others():
    first = list(invent(LEXICON, count=300, seed=1))
    assert list(invent(LEXICON, count=300, seed=1)) == first
    assert list(invent(LEXICON, count=300, seed=2)) != first


@given(seed=st.integers(0, 10_000))
def test_messages_are_unique_and_carry_nothing_of_the_notation(seed: int):
    texts = [message.text for message in invent(LEXICON, count=200, seed=seed)]
    assert len({re.sub(r"\W+", " ", text.lower()) for text in texts}) == 200
    for text in texts:
        assert not re.search(r"[\[\]{}()|]|\$[a-z]|  ", text), text
        assert 1 <= len(text.split()) <= 40


def test_messages_come_from_many_areas():
    areas = {message.area for message in invent(LEXICON, count=12_000, seed=0)}
    assert len(areas) == len(LEXICON.areas) >= 80


def test_a_small_lexicon_is_used_up_and_says_nothing_twice(tmp_path: Path):
    lexicon = small_lexicon(tmp_path, "== door\nask:\nis [the door] (open|shut)")
    texts = [message.text.lower() for message in invent(lexicon, count=10_000, seed=0)]
    assert 2 <= len(texts) < 10_000
    assert {"is the door open", "is the door shut"} <= {text.rstrip("?") for text in texts}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("do:\nopen (the door", "stays open"),
        ("do:\nopen | shut", "stands alone"),
        ("open the door", "before its section"),
        ("do:\nopen $thingamajig", "thingamajig"),
        ("dance:\nopen it", "dance"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: str, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        small_lexicon(tmp_path, f"== door\n{line}")


def test_what_is_written_reads_back_as_json_lines(tmp_path: Path):
    messages = list(invent(LEXICON, count=50, seed=0))
    for name in ("plain.jsonl", "packed.jsonl.gz"):
        write(messages, tmp_path / name)
    packed = gzip.decompress((tmp_path / "packed.jsonl.gz").read_bytes())
    assert packed == (tmp_path / "plain.jsonl").read_bytes()
    rows = [json.loads(line) for line in packed.splitlines()]
    assert rows == [{"text": message.text, "source": "invented"} for message in messages]


@pytest.mark.parametrize(
    ("base", "forms"),
    [
        ("stop the music", ("stopping the music", "stopped the music", "stopped the music")),
        ("take it back", ("taking it back", "took it back", "taken it back")),
        ("carry on", ("carrying on", "carried on", "carried on")),
        ("set an alarm", ("setting an alarm", "set an alarm", "set an alarm")),
        ("edit a post", ("editing a post", "edited a post", "edited a post")),
        ("dye my hair", ("dyeing my hair", "dyed my hair", "dyed my hair")),
    ],
)
def test_verbs_take_their_forms(base: str, forms: tuple[str, str, str]):
    assert (gerund(base), past(base), participle(base)) == forms


@pytest.mark.parametrize(
    ("direct", "embedded"),
    [
        ("how long does [a refund] take", "how long a refund takes"),
        ("what did [you] see", "what you saw"),
        ("is [the pool] open", "if the pool is open"),
        ("where can [i] park", "where i can park"),
        ("which size should i take", "which size i should take"),
        ("who pays for that", "who pays for that"),
    ],
)
def test_questions_change_their_word_order_inside_a_sentence(direct: str, embedded: str):
    assert indirect(direct) == embedded


def test_verbs_agree_and_articles_fit():
    assert agreeing("how much is [eggs]") == "how much are [eggs]"
    assert agreeing("where are [the bus]") == "where is [the bus]"
    assert agreeing_statement("the tyres is worn") == "the tyres are worn"
    assert agreeing_statement("my bus is late") == "my bus is late"
    assert with_articles("a apple, a uniform, a hour") == "an apple, a uniform, an hour"


def small_lexicon(folder: Path, area: str) -> Lexicon:
    (folder / "area.txt").write_text(area)
    (folder / "slots.txt").write_text("== slots\n$city = Rome")
    (folder / "carriers.txt").write_text("== carriers\nask:\n{q}?\nmixed:\n{q}?")
    return read_lexicon(folder)
