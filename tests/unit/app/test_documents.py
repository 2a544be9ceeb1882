"""Documents: cut into passages, found again by words."""

import re

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as trying
from hypothesis import strategies as st

from app.database import documents
from app.database.database import Database
from app.errors import InvalidInput, NotFound
from generator.documents import MOST_WORDS_IN_A_PASSAGE, cut

SHOP = """# Our shop

Welcome to the shop.

## Opening hours

We are open on weekdays from nine to five.

## Delivery

Parcels are delivered by couriers. Shipping to islands costs more.

## Returns

Returned parcels are refunded.
"""

words = st.text("abcdefghijklm", min_size=1, max_size=8)
sentences = st.lists(words, min_size=1, max_size=30).map(" ".join)
headings = st.builds("{} {}".format, st.sampled_from(["#", "##", "###"]), sentences)
blocks = st.lists(headings | sentences, max_size=12)
anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))


def put(database: Database, markdown: str = SHOP, name: str = "shop", title: str = ""):
    return database.write_now(lambda c: documents.put(c, name, title=title, markdown=markdown))


def found(database: Database, question: str, most: int = 8):
    return database.read_now(lambda c: documents.search(c, question, most=most))


def test_a_document_is_cut_at_its_headings() -> None:
    heading, pieces = cut(SHOP)
    assert heading == "Our shop"
    assert [title for title, _ in pieces] == ["Our shop", "Opening hours", "Delivery", "Returns"]
    assert pieces[1][1] == "We are open on weekdays from nine to five."


@given(blocks)
def test_every_word_of_the_text_is_in_a_passage_once_and_in_order(blocks: list[str]) -> None:
    body = " ".join(block for block in blocks if not block.startswith("#")).split()
    _, pieces = cut("\n\n".join(blocks))
    assert " ".join(text for _, text in pieces).split() == body


@given(anything)
@example("#")
@example("# \n## \n###### x ######")
@example("####### seven\n#tag")
@example("a\r\n\r\n# b\r\nc")
def test_no_text_is_lost_in_any_markdown(markdown: str) -> None:
    heading, pieces = cut(markdown)
    kept = heading + " ".join(f"{title} {text}" for title, text in pieces)
    lines = [line for line in re.split(r"[\r\n]+", markdown) if not line.lstrip().startswith("#")]
    assert set(re.findall(r"\w+", " ".join(lines))) <= set(re.findall(r"\w+", kept))


@pytest.mark.parametrize("between", ["\n\n", "\n", " "])
def test_a_long_section_is_cut_into_passages_of_bounded_length(between: str) -> None:
    sentence = "The quick brown fox jumps over the lazy dog."
    _, pieces = cut("## Long\n\n" + between.join([sentence] * 100))
    assert len(pieces) >= 5
    assert {title for title, _ in pieces} == {"Long"}
    assert all(len(text.split()) <= MOST_WORDS_IN_A_PASSAGE for _, text in pieces)
    assert " ".join(text for _, text in pieces).split() == (sentence.split() * 100)
    assert all(text.endswith("dog.") for _, text in pieces)


def test_every_part_of_a_long_table_names_its_columns() -> None:
    columns = "| Country | Days |\n|:---|---|\n"
    rows = [f"| Land {number} | {number} days |" for number in range(99)]
    _, pieces = cut("## Abroad\n\n" + columns + "\n".join(rows) + "\n\nThat is all.")
    tables = [text.split("\n\n")[0] for _, text in pieces]
    assert len(tables) > 2
    assert all(text.startswith(columns) for text in tables)
    assert "\n".join(text.removeprefix(columns) for text in tables) == "\n".join(rows)
    assert all(len(text.split()) <= MOST_WORDS_IN_A_PASSAGE for _, text in pieces)


def test_one_endless_sentence_is_cut_too() -> None:
    _, pieces = cut("word " * 1000)
    assert all(len(text.split()) <= MOST_WORDS_IN_A_PASSAGE for _, text in pieces)
    assert sum(len(text.split()) for _, text in pieces) == 1000


def test_a_closed_heading_loses_its_marks_but_a_sharp_stays() -> None:
    assert cut("## Opening hours ##\ntext")[1] == [("Opening hours", "text")]
    assert cut("## Learn C#\ntext")[1] == [("Learn C#", "text")]


def test_what_looks_like_a_heading_in_code_is_none() -> None:
    code = "```sh\n# restart it\n\ntwofold serve\n```"
    text = f"## Restart\n\nType:\n\n{code}\n\n## Then\n\nWait.\n"
    assert cut(text)[1] == [("Restart", f"Type:\n\n{code}"), ("Then", "Wait.")]
    assert cut("~~~\n```\n# a\n~~~\n# b\nc")[1] == [("", "~~~\n```\n# a\n~~~"), ("b", "c")]
    assert cut("```\n# never closed\n\nend")[1] == [("", "```\n# never closed\n\nend")]


def test_a_word_is_found_by_its_stem_in_any_case(database: Database) -> None:
    put(database)
    assert found(database, "Is DELIVERING possible?")[0].title == "Delivery"
    assert found(database, "refund")[0].title == "Returns"
    assert found(database, "opened")[0].title == "Opening hours"


def test_a_word_in_the_title_counts_more(database: Database) -> None:
    put(database, "## Couriers\n\nThey bring it.\n\n## Other\n\nWe know couriers.\n")
    assert [one.title for one in found(database, "couriers")] == ["Couriers", "Other"]


def test_what_is_found_names_its_document_and_scores_fall(database: Database) -> None:
    put(database)
    results = found(database, "are parcels delivered to islands")
    assert {one.document for one in results} == {"Our shop"}
    assert [one.score for one in results] == sorted((one.score for one in results), reverse=True)
    assert all(one.score > 0 for one in results)
    assert len(found(database, "are parcels delivered to islands", most=1)) == 1


@pytest.mark.parametrize("question", ["", "?!", "zebra", "''", '"', "\\"])
def test_a_question_without_a_known_word_finds_nothing(database: Database, question: str) -> None:
    put(database)
    assert found(database, question) == []


@pytest.mark.parametrize(
    "question",
    [
        'parcels" OR "x',
        "parcels AND NOT (couriers",
        "NEAR(parcels couriers)",
        "title:parcels",
        "parcels*",
        "parcels' | 'x",
        "!parcels & :*",
        "parcels <-> couriers",
        "^parcels - + ~ :A",
    ],
)
def test_search_operators_in_a_question_are_words(database: Database, question: str) -> None:
    put(database)
    assert "Delivery" in [one.title for one in found(database, question)]


@given(st.text())
@example("___")
@example("x" * 4000)
@example("\u00e9" * 2000)
@example("\x00 parcels")
@example("\ud800 parcels")
@example(" ".join(f"w{n}" for n in range(500)))
@trying(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_question_is_an_error(database: Database, question: str) -> None:
    found(database, question)


def test_a_document_put_again_is_replaced_also_in_the_search(database: Database) -> None:
    put(database)
    again = put(database, "# New\n\nNow about bicycles.")
    assert (again.title, again.passages) == ("New", 1)
    assert found(database, "parcels") == []
    assert [one.title for one in found(database, "bicycle")] == ["New"]


def test_a_removed_document_is_found_no_more(database: Database) -> None:
    put(database)
    database.write_now(lambda c: documents.remove(c, "shop"))
    assert found(database, "parcels") == []
    for look in (documents.get, documents.remove):
        with pytest.raises(NotFound):
            database.write_now(lambda c, look=look: look(c, "shop"))


def test_a_title_given_wins_over_the_heading_and_that_over_the_name(database: Database) -> None:
    assert put(database, title="Given").title == "Given"
    assert put(database).title == "Our shop"
    assert put(database, "no heading").title == "shop"


def test_headings_alone_are_no_document(database: Database) -> None:
    with pytest.raises(InvalidInput):
        put(database, "# Only\n\n## Headings")
    assert database.read_now(documents.everything) == []


def test_headings_longer_than_their_columns_are_shortened(database: Database) -> None:
    long = "heading " * 100
    stored = put(database, f"# {long}\n\ntext one\n\n## {long}\n\ntext two")
    assert stored.passages == 2
    assert len(stored.title) <= 300


def test_a_very_long_paragraph_can_be_stored_and_found(database: Database) -> None:
    put(database, " ".join(f"w{n:x}" for n in range(80_000)) + " parcel")
    assert len(found(database, "parcels")) == 1
