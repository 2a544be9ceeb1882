"""Reading, checking, splitting and writing training data."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent import data as training_data
from intent.annotation import AnnotatedSlot
from intent.data import (
    Example,
    TrainingSet,
    data_hash,
    lint,
    read,
    split,
    training_set,
    write,
)
from intent.interface import OUT_OF_SCOPE, TrainingDataError
from intent.slot_rules import NO_RULES, SlotRules
from intent.text import normalize

# Brackets may look like annotations, which only JSONL can tell from text.
texts = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00[]"), min_size=1, max_size=30
).map(str.strip)
names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=10).filter(
    normalize  # a Hangul filler is a letter, but nobody sees it
)
sets = st.lists(st.builds(Example, text=texts.filter(bool), intent=names), max_size=20).map(
    training_set
)


@st.composite
def annotated_examples(draw: st.DrawFn) -> Example:
    """Words between blanks, some of them slots."""
    words = draw(st.lists(names, min_size=1, max_size=6))
    slots = []
    for place, word in enumerate(words):
        if draw(st.booleans()):
            start = sum(map(len, words[:place])) + place
            optional = {key: draw(st.none() | names) for key in ("role", "group", "value")}
            slots.append(AnnotatedSlot(draw(names), start, start + len(word), **optional))
    return Example(" ".join(words), draw(names), slots=tuple(slots))


rule_pairs = st.lists(st.tuples(names, names), max_size=3, unique_by=lambda pair: pair[0])
slot_rules = st.builds(
    lambda *pairs: SlotRules(*(tuple(found) for found in pairs)), rule_pairs, rule_pairs, rule_pairs
)
annotated_sets = st.builds(
    lambda examples, rules: training_set(examples, slot_rules=rules),
    st.lists(annotated_examples(), max_size=8),
    slot_rules,
)


def example_pairs(data: TrainingSet) -> Counter[tuple[str, str]]:
    return Counter((e.text, e.intent) for e in data.examples + data.out_of_scope)


def write_file(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def problems_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(TrainingDataError) as caught:
        read(path)
    return caught.value.problems


@pytest.mark.parametrize("ending", ["yml", "jsonl", "csv"])
@given(data=sets)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, ending: str, data: TrainingSet
) -> None:
    path = tmp_path_factory.getbasetemp() / f"round-trip.{ending}"
    write(data, path)
    assert example_pairs(read(path)) == example_pairs(data)


@pytest.mark.parametrize("ending", ["yml", "jsonl"])
@given(data=annotated_sets)
def test_slots_and_rules_that_are_written_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, ending: str, data: TrainingSet
) -> None:
    path = tmp_path_factory.getbasetemp() / f"slots.{ending}"
    write(data, path)
    found = read(path)
    by_content = Counter((e.text, e.intent, e.slots) for e in data.examples)
    assert Counter((e.text, e.intent, e.slots) for e in found.examples) == by_content
    assert sorted(found.slot_rules.rows()) == sorted(data.slot_rules.rows())
    assert data_hash(found) == data_hash(data)


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("a.csv", Example("to Rome", "travel", slots=(AnnotatedSlot("city", 3, 7),))),
        ("a.yml", Example("to [Rome](city)", "travel")),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path: Path, name: str, example: Example) -> None:
    with pytest.raises(TrainingDataError, match=r"write .*(jsonl|JSONL)"):
        write(training_set([example]), tmp_path / name)
    assert not (tmp_path / name).exists()


def test_slots_in_jsonl_are_places_or_tags(tmp_path: Path) -> None:
    rows = [
        {"text": " to New York now", "intent": "travel", "tags": "O B-city I-city O"},
        {
            "text": " to Rome",
            "intent": "travel",
            "slots": [{"name": "city", "start": 3, "end": 8, "role": "to", "value": "ROM"}],
        },
        {"text": "york now", "intent": "travel", "tags": "I-city I-time"},
        {"synonym": "New York", "examples": ["NYC", "big apple"]},
        {"regex": "zip", "examples": ["\\d{5}"]},
        {"lookup": "city", "examples": ["Rome"]},
    ]
    data = read(write_file(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert [example.slots for example in data.examples] == [
        (AnnotatedSlot("city", 3, 11),),
        (AnnotatedSlot("city", 3, 7, role="to", value="ROM"),),
        (AnnotatedSlot("city", 0, 4), AnnotatedSlot("time", 5, 8)),
    ]
    assert [example.text for example in data.examples] == ["to New York now", "to Rome", "york now"]
    assert "read as the beginning" in data.notices[0]
    assert data.slot_rules == SlotRules(
        synonyms=(("NYC", "New York"), ("big apple", "New York")),
        regexes=(("zip", "\\d{5}"),),
        lookups=(("city", "Rome"),),
    )


def test_rasa_yaml_is_read_with_the_line_of_every_example(tmp_path: Path) -> None:
    path = write_file(
        tmp_path,
        "nlu.yml",
        """version: "3.1"

nlu:
- intent: travel
  examples: |
    - to [Rome](city)
    - from [NYC]{"entity": "city", "value": "New York"} to [Oslo](city:OSL)

    - [two][{"entity": "n"}] tickets [sic]
    no dash here
- intent: faq/ask_hours
  examples:
  - text: |
      when are you open
    metadata: {sentiment: neutral}
  - text: open today?
- synonym: NYC
  examples: |
    - big apple
- regex: zip
  examples: |
    - \\d{5}
- lookup: city
  examples:
  - Bonn
- intent: out_of_scope
  examples: |
    - tell me a joke
responses:
  utter_hi:
  - text: hi
""",
    )
    data = read(path)
    assert data.examples == (
        Example("to Rome", "travel", f"{path}:6", (AnnotatedSlot("city", 3, 7),)),
        Example(
            "from NYC to Oslo",
            "travel",
            f"{path}:7",
            (
                AnnotatedSlot("city", 5, 8, value="New York"),
                AnnotatedSlot("city", 12, 16, value="OSL"),
            ),
        ),
        Example("two tickets [sic]", "travel", f"{path}:9", (AnnotatedSlot("n", 0, 3),)),
        Example("when are you open", "faq/ask_hours", f"{path}:13"),
        Example("open today?", "faq/ask_hours", f"{path}:16"),
    )
    assert data.out_of_scope == (Example("tell me a joke", OUT_OF_SCOPE, f"{path}:28"),)
    assert data.slot_rules == SlotRules(
        synonyms=(("big apple", "NYC"),), regexes=(("zip", "\\d{5}"),), lookups=(("city", "Bonn"),)
    )
    assert [notice.removeprefix(f"{path}:") for notice in data.notices] == [
        "10: not imported, as it lacks the leading `- `",
        "29: 'responses' was not imported",
    ]


def test_a_folder_is_read_whole_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    write_file(tmp_path, "a.jsonl", '{"text": "hi", "intent": "greet", "more": 1}\n\n')
    (tmp_path / "deep").mkdir()
    write_file(
        tmp_path / "deep", "b.csv", 'text,intent\n"bye, ""friend""\nnow",leave\nciao,leave\n'
    )
    write_file(tmp_path, "notes.txt", "hello")
    write_file(tmp_path, ".hidden.jsonl", "nonsense")
    data = read(tmp_path)
    assert [(e.text, Path(e.source).name) for e in data.examples] == [
        ("hi", "a.jsonl:1"),
        ('bye, "friend"\nnow', "b.csv:2"),
        ("ciao", "b.csv:4"),
    ]
    assert len(data.notices) == 1
    assert "notes.txt" in data.notices[0]


@pytest.mark.parametrize(
    ("name", "content", "line", "words"),
    [
        ("a.jsonl", '{"text": "a", "intent": "b"}\n{"text": 3}\n', 2, "expected"),
        ("a.jsonl", "\n{oops\n", 2, "not JSON"),
        ("a.jsonl", "[" * 100_000, 1, "not JSON"),
        ("a.csv", "words,label\n", 1, "text,intent"),
        ("a.csv", "text,intent\na,b\nalone\n", 3, "too few columns"),
        ("a.csv", "text,intent\na,b,c\n", 2, "too many columns"),
        ("a.csv", 'text,intent\n"open,b\n', 2, "not valid CSV"),
        ("a.yml", "nlu: [\n", 2, "not valid YAML"),
        ("a.yml", "- just a list\n", 1, "expected `nlu:`"),
        ("a.yml", "a: &x [1]\nb: *x\n", 1, "anchors"),
        ("a.yml", "nlu: " + "[" * 5_000, 1, "levels deep"),
        ("a.yml", "nlu:\n- intent: a\n", 2, "no `examples:`"),
        ("a.yml", "nlu:\n- intent: a\n  examples:\n  - [x]\n", 4, "expected `- text:"),
        ("a.yml", 'version: "1.0"\nnlu: []\n', 1, "convert the file"),
        ("a.yml", "nlu:\n- intent: a\n  examples: |\n    - to [Rome](city\n", 4, "has no `)`"),
        ("a.yml", "nlu:\n- intent: a\n  examples: |\n    - [x]{entity: b}\n", 4, "broken JSON"),
        ("a.yml", "nlu:\n- regex: a\n  examples: |\n    - \\d\n    - (\n", 5, "not a regular"),
        ("a.yml", "nlu:\n- lookup: a\n", 2, "no `examples:`"),
        ("a.jsonl", '{"text": "a", "intent": "b", "tags": "O O"}\n', 1, "1 words and 2 tags"),
        ("a.jsonl", '{"text": "a", "intent": "b", "tags": "X-c"}\n', 1, "is no tag"),
        ("a.jsonl", '{"text": "a", "intent": "b", "slots": [{"name": "c"}]}\n', 1, "lacks"),
        (
            "a.jsonl",
            '{"text": "a", "intent": "b", "slots": [{"name": "c", "start": 0, "end": 2}]}\n',
            1,
            "outside the text",
        ),
        ("a.jsonl", '{"regex": "a", "examples": ["(a{1000}){1000}"]}\n', 1, "multiply"),
        ("a.yml", "nlu: !!python/name:os.system x\n", 1, "must be a list"),
    ],
)
def test_a_problem_names_file_and_line_and_remedy(
    tmp_path: Path, name: str, content: str, line: int, words: str
) -> None:
    path = write_file(tmp_path, name, content)
    (problem,) = problems_of(path)
    assert problem.startswith(f"{path}:{line}: ")
    assert words in problem


def test_other_encodings_and_missing_paths_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("text,intent\nüber,x\n".encode("latin-1"))
    assert problems_of(path) == (f"{path}:2: not UTF-8; save the file as UTF-8",)
    assert "no such file" in problems_of(tmp_path / "nothing")[0]
    assert "unknown ending" in problems_of(write_file(tmp_path, "a.md", ""))[0]


def test_all_problems_of_all_files_are_named_at_once(tmp_path: Path) -> None:
    write_file(tmp_path, "a.jsonl", "x\ny\n")
    write_file(tmp_path, "b.jsonl", "x\n" * 100)
    problems = problems_of(tmp_path)
    assert problems[-1] == "and 52 more"


def messages(*examples: tuple[str, str]) -> list[tuple[str, str]]:
    data = training_set(
        Example(text, intent, f"f:{n}") for n, (text, intent) in enumerate(examples)
    )
    return [(problem.severity, str(problem)) for problem in lint(data)]


def plenty(intent: str) -> list[tuple[str, str]]:
    return [(f"{intent} number {n}", intent) for n in range(10)]


def test_good_data_has_no_problems() -> None:
    assert messages(*plenty("a"), *plenty("b"), ("tell a joke", OUT_OF_SCOPE)) == []


@pytest.mark.parametrize(
    ("examples", "severity", "words"),
    [
        ([], "error", "no examples"),
        (plenty("a"), "error", "the only intent"),
        ([*plenty("a"), ("x", "b"), ("X ", "b")], "error", "at least 2 different"),
        ([*plenty("a"), ("x", "b"), ("y", "b")], "warning", "has 2 examples"),
        ([*plenty("a"), *plenty("b"), (" \u200b", "b")], "error", "empty example"),
        ([*plenty("a"), *plenty(" b")], "error", "stray white space"),
        ([*plenty("a"), *plenty("")], "error", "blank"),
        ([*plenty("a"), *plenty("b"), ("A Number 1", "b")], "warning", "'a' and 'b'"),
        ([*plenty("a"), *plenty("b"), ("a number 1", OUT_OF_SCOPE)], "warning", "'out_of_scope'"),
        ([*plenty("a"), *plenty("b"), ("A NUMBER 1", "a")], "warning", "twice"),
        ([*plenty("a"), *plenty("b"), ("x" * 1001, "b")], "warning", "1,000 characters"),
        ([*plenty("a"), *plenty("b"), ("x \ud800", "b")], "error", "half a character"),
    ],
)
def test_lint_finds(examples: list[tuple[str, str]], severity: str, words: str) -> None:
    found = messages(*examples)
    assert found[0][0] == severity
    assert words in found[0][1]


def slot_messages(text: str, *slots: AnnotatedSlot, rules: SlotRules = NO_RULES) -> list[str]:
    marked = Example(text, "a", "f:1", slots)
    others = [Example(text, intent) for text, intent in plenty("a") + plenty("b")]
    return [f"{p.severity} {p}" for p in lint(training_set([marked, *others], slot_rules=rules))]


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([AnnotatedSlot("city", 3, 7)], None),
        ([AnnotatedSlot("city", 3, 6)], "warning f:1: slot 'city', 'rom', begins or ends inside"),
        ([AnnotatedSlot("city", 3, 70)], "error f:1: slot 'city' at 3-70 lies outside"),
        ([AnnotatedSlot("city", 3, 7), AnnotatedSlot("to", 0, 7)], "error f:1: slot 'city' at 3-7"),
        ([AnnotatedSlot("a(b", 3, 7)], "error f:1: 'a(b' cannot name a slot"),
    ],
)
def test_lint_checks_the_places_of_slots(slots: list[AnnotatedSlot], message: str | None) -> None:
    found = slot_messages("to rome", *slots)
    assert found[0].startswith(message) if message else not found


def test_lint_checks_rules() -> None:
    rules = SlotRules(synonyms=(("NYC", "New York"), ("nyc", "York")), regexes=(("zip", "("),))
    found = slot_messages("to rome", rules=rules)
    assert "not a regular expression" in found[0]
    assert "'New York' and 'York'" in found[1]


def test_the_hash_of_data_depends_on_slots_and_rules() -> None:
    plain, marked = (
        Example("to rome", "a", slots=slots) for slots in ((), (AnnotatedSlot("city", 3, 7),))
    )
    rules = SlotRules(lookups=(("city", "rome"),))
    sets = [training_set([plain]), training_set([marked]), training_set([plain], slot_rules=rules)]
    assert len(set(map(data_hash, sets))) == 3


@given(annotated_sets)
def test_a_split_keeps_the_rules_on_both_sides(data: TrainingSet) -> None:
    assert all(part.slot_rules == data.slot_rules for part in split(data))


@given(sets, st.floats(0, 1), st.integers(0, 5))
def test_a_split_loses_nothing_and_leaves_every_intent_an_example(
    data: TrainingSet, held_out: float, seed: int
) -> None:
    kept, apart = split(data, held_out=held_out, seed=seed)
    assert example_pairs(kept) + example_pairs(apart) == example_pairs(data)
    assert kept.intents == data.intents
    assert split(data, held_out=held_out, seed=seed) == (kept, apart)


@given(sets, sets)
def test_more_examples_of_other_intents_move_nothing(data: TrainingSet, more: TrainingSet) -> None:
    others = [e for e in more.examples if e.intent not in data.intents]
    _, before = split(data)
    _, after = split(training_set([*others, *data.examples[::-1], *data.out_of_scope]))
    moved = example_pairs(after)
    for example in others:
        moved.pop((example.text, example.intent), None)
    assert moved == example_pairs(before)


def test_a_split_takes_the_share_of_every_intent() -> None:
    data = training_set(Example(text, intent) for text, intent in plenty("a") + plenty("b"))
    _, apart = split(data, held_out=0.3)
    assert Counter(e.intent for e in apart.examples) == {"a": 3, "b": 3}


@given(sets, st.randoms())
def test_the_hash_of_data_does_not_depend_on_order(data: TrainingSet, random: object) -> None:
    shuffled = list(data.examples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert data_hash(training_set([*data.out_of_scope, *shuffled])) == data_hash(data)


def test_the_hash_of_data_depends_on_every_word() -> None:
    one, other = ("hi", "greet"), ("hi", "greets")
    hashes = {data_hash(training_set([Example(*pair)])) for pair in (one, other)}
    assert len(hashes) == 2
    assert json.dumps(sorted(hashes))


@given(st.text(st.sampled_from("'\"=+-@|%＝\t a1") | st.characters(codec="utf-8"), max_size=8))
def test_a_cell_is_read_back_as_it_was_and_no_spreadsheet_computes_it(cell: str) -> None:
    guarded = training_data._guarded(cell)
    assert training_data._without_guard(guarded) == cell
    assert guarded[:1] not in tuple("=+-@|%＝＋－＠％\t\r\n")
