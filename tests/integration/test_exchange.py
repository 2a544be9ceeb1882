"""Training data, replies and documents from files into the database, and out again."""

import json
from pathlib import Path

import pytest

from app import demo, exchange
from app.database import assistant, documents, intents
from app.database.database import Database
from app.errors import InvalidInput
from intent.interface import OUT_OF_SCOPE

NLU = """\
version: "3.1"
nlu:
- intent: greet
  examples: |
    - hello
    - good [morning](time)
- intent: faq/returns
  examples: |
    - can I send it back
    - größe passt nicht, zurück damit
- intent: out_of_scope
  examples: |
    - do my taxes
"""

RESPONSES = """\
version: "3.1"
responses:
  utter_greet:
  - text: "Hello, {name}!"
  - text: "Hello!"
  utter_faq/returns:
  - text: You have 45 days.
"""

DOCUMENT = "# Returns\n\n## How long?\n\nYou have 45 days.\n"

EXAMPLES = {
    ("hello", "greet"),
    ("good morning", "greet"),
    ("can I send it back", "faq/returns"),
    ("größe passt nicht, zurück damit", "faq/returns"),
    ("do my taxes", OUT_OF_SCOPE),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "assistant"
    made.mkdir()
    (made / "nlu.yml").write_text(NLU, "utf-8")
    (made / "responses.yml").write_text(RESPONSES, "utf-8")
    (made / "returns.md").write_text(DOCUMENT, "utf-8")
    return made


def test_a_rasa_project_becomes_intents_replies_and_documents(
    database: Database, folder: Path
) -> None:
    done = _import(database, folder)
    assert done == exchange.Imported(intents=3, examples=5, replies=3, documents=1)
    assert set(database.read_now(intents.training_data)) == EXAMPLES
    replies = {one.name: one.replies for one in database.read_now(intents.everything)}
    assert replies == {
        "greet": ("Hello, {name}!", "Hello!"),
        "faq/returns": ("You have 45 days.",),
        OUT_OF_SCOPE: (),
    }
    stored = database.read_now(lambda c: documents.get(c, "returns"))
    assert (stored.title, stored.passages) == ("Returns", 1)
    assert database.read_now(lambda c: documents.search(c, "how long"))


def test_importing_again_doubles_nothing(database: Database, folder: Path) -> None:
    _import(database, folder)
    before = _everything(database)
    again = _import(database, folder)
    assert (again.intents, again.examples) == (3, 0)
    assert _everything(database) == before


def test_importing_adds_examples_and_replaces_replies_and_documents(
    database: Database, folder: Path
) -> None:
    _import(database, folder)
    database.write_now(lambda c: intents.change(c, "greet", title="Say hello"))
    (folder / "nlu.yml").write_text(NLU.replace("hello", "hey"), "utf-8")
    (folder / "responses.yml").write_text(RESPONSES.replace("45", "60"), "utf-8")
    (folder / "returns.md").write_text(DOCUMENT.replace("45", "60"), "utf-8")
    assert _import(database, folder).examples == 1
    greet = database.read_now(lambda c: intents.get(c, "greet"))
    assert (greet.examples, greet.title) == (3, "Say hello")
    returns = database.read_now(lambda c: intents.get(c, "faq/returns"))
    assert returns.replies == ("You have 60 days.",)
    found = database.read_now(lambda c: documents.search(c, "how long"))
    assert [one.text for one in found] == ["You have 60 days."]


@pytest.mark.parametrize("ending", [".yml", ".yaml", ".jsonl", ".csv"])
def test_what_is_exported_comes_in_again_the_same(
    database: Database, folder: Path, tmp_path: Path, ending: str
) -> None:
    odd = ["a: b # c", "- dash", '"quoted", it\'s', "two\nlines", "😀 尺码", "[x] (y", "{z}", "| >"]
    _import(database, folder)
    database.write_now(lambda c: intents.add_examples(c, "greet", odd))
    file = tmp_path / f"out{ending}"
    assert database.read_now(lambda c: exchange.export(c, file)) == 5 + len(odd)
    before = database.read_now(intents.training_data)
    for name in ("greet", "faq/returns", OUT_OF_SCOPE):
        database.write_now(lambda c, name=name: intents.remove(c, name))
    assert database.read_now(intents.training_data) == []
    _import(database, file)
    assert database.read_now(intents.training_data) == before


def test_a_text_that_looks_like_a_broken_annotation_is_not_exported_as_rasa_would_misread_it(
    database: Database, folder: Path, tmp_path: Path
) -> None:
    _import(database, folder)
    database.write_now(lambda c: intents.add_examples(c, "greet", ["[x](y"]))
    with pytest.raises(InvalidInput, match="write JSONL"):
        database.read_now(lambda c: exchange.export(c, tmp_path / "out.yml"))
    assert not (tmp_path / "out.yml").exists()
    assert database.read_now(lambda c: exchange.export(c, tmp_path / "out.jsonl")) == 6


def test_an_export_of_nothing_can_be_imported(database: Database, tmp_path: Path) -> None:
    for ending in (".yml", ".jsonl", ".csv"):
        file = tmp_path / f"empty{ending}"
        assert database.read_now(lambda c, file=file: exchange.export(c, file)) == 0
        assert _import(database, file).examples == 0


def test_imported_replies_are_seen_by_running_servers(database: Database, folder: Path) -> None:
    before = database.read_now(assistant.revision)
    _import(database, folder)
    assert database.read_now(assistant.revision) > before


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bad.yml", b"nlu:\n- intent: greet\n  examples: [\n", "bad.yml:"),
        ("bad.yml", b"nlu: 7\n", "bad.yml:1"),
        ("bad.yml", b'version: "9.0"\nnlu: []\n', "bad.yml:1"),
        ("bad.yml", b"a: &a [1]\nb: *a\n", "bad.yml:1"),
        ("bad.yml", b"\xff\xfe\x00", "bad.yml"),
        ("bad.jsonl", b'{"text": "hello", "intent": "greet"}\n{"text": 1}\n', "bad.jsonl:2"),
        ("bad.jsonl", b"hello\n", "bad.jsonl:1"),
        ("bad.csv", b"a,b\n1,2\n", "bad.csv:1"),
        ("bad.csv", b"text,intent\nhello\n", "bad.csv:2"),
        ("bad.md", b"# \xff\xfe\n\ntext", "bad.md"),
        ("bad.md", b"", "bad.md"),
        ("bad.md", b"# Headings only\n", "bad.md"),
        ("bad.md", b"text\0", "bad.md"),
        ("bad.jsonl", b'{"text": "a\\u0000b", "intent": "greet"}\n', "bad.jsonl"),
        ("bad.jsonl", b'{"text": "a\\ud800b", "intent": "greet"}\n', "bad.jsonl"),
        ("bad.jsonl", b'{"text": "hello", "intent": "' + b"x" * 300 + b'"}\n', "bad.jsonl"),
        ("bad.jsonl", b'{"text": "hello", "intent": ""}\n', "bad.jsonl"),
        ("bad.jsonl", b'{"text": "", "intent": "greet"}\n', "bad.jsonl"),
        ("bad.yml", b"responses:\n  utter_out_of_scope:\n  - text: No.\n", "out_of_scope"),
        ("bad.yml", b'responses:\n  utter_greet:\n  - text: "a\\0b"\n', "bad.yml"),
    ],
)
def test_a_bad_file_is_named_and_changes_nothing(
    database: Database, folder: Path, name: str, content: bytes, said: str
) -> None:
    _import(database, folder)
    before = _everything(database)
    (folder / name).write_bytes(content)
    with pytest.raises(InvalidInput) as refused:
        _import(database, folder)
    assert said in refused.value.message
    assert _everything(database) == before


def test_every_problem_of_all_files_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text("hello\n{}\n")
    (tmp_path / "two.csv").write_text("a,b\n")
    with pytest.raises(InvalidInput) as refused:
        exchange.read([tmp_path])
    for place in ("one.jsonl:1", "one.jsonl:2", "two.csv:1"):
        assert place in refused.value.message


def test_a_path_that_is_not_there_or_no_format_of_ours_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nothing-here"):
        exchange.read([tmp_path / "nothing-here"])
    (tmp_path / "picture.png").write_bytes(b"png")
    with pytest.raises(InvalidInput, match=r"picture\.png"):
        exchange.read([tmp_path / "picture.png"])


def test_what_rasa_has_and_we_have_not_is_told(tmp_path: Path) -> None:
    (tmp_path / "nlu.yml").write_text(
        NLU + "- synonym: credit\n  examples: |\n    - card\nrules: []\n", "utf-8"
    )
    notices = exchange.read([tmp_path]).notices
    assert any("synonym" in one for one in notices)
    assert any("rules" in one for one in notices)


def test_the_demo_fills_an_empty_database_once(database: Database) -> None:
    loaded = database.write_now(demo.load)
    assert loaded is not None
    assert loaded.intents >= 25
    assert loaded.documents >= 1
    before = _everything(database)
    assert database.write_now(demo.load) is None
    assert _everything(database) == before
    replies = database.read_now(assistant.reply_book)
    unanswered = [
        name for name, one in replies.intents.items() if not one.variants and name != OUT_OF_SCOPE
    ]
    assert unanswered == []


def _import(database: Database, path: Path) -> exchange.Imported:
    found = exchange.read([path])
    return database.write_now(lambda c: exchange.store(c, found))


def _everything(database: Database) -> str:
    """What is stored, without the times at which it was."""
    return json.dumps(
        [
            database.read_now(intents.training_data),
            [
                [one.name, one.title, one.replies, one.examples]
                for one in database.read_now(intents.everything)
            ],
            [
                [one.name, one.title, one.text, one.passages]
                for one in database.read_now(documents.everything)
            ],
        ]
    )
