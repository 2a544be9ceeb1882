"""The training data part of Rasa's NLU YAML, versions 2.0 to 3.1."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import yaml

from intent import annotation
from intent.annotation import AnnotatedSlot, AnnotationError, mark
from intent.interface import TrainingDataError
from intent.slot_rules import RULE_KINDS, Rule, SlotRules, rule_problems

Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_DEPTH = 32
VERSIONS = ("2.0", "3.0", "3.1")


@dataclass(frozen=True, slots=True)
class RasaExample:
    text: str
    intent: str
    line: int
    slots: tuple[AnnotatedSlot, ...]


@dataclass
class RasaFile:
    examples: list[RasaExample] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def parse(content: str, name: str) -> RasaFile:
    """Raises TrainingDataError where there is no reading on at all."""
    root = _compose(content, name)
    file = RasaFile()
    if root is None:
        file.notices.append(f"{name}: empty, nothing imported")
        return file
    if not isinstance(root, yaml.MappingNode):
        raise _error(name, root, "expected `nlu:` with a list of intents at the top")
    for key, value in root.value:
        if key.value == "version":
            if value.value not in VERSIONS:
                file.problems.append(
                    f"{_place(name, value)}: version {str(value.value)[:20]!r} is unknown; "
                    f"convert the file to one of {', '.join(VERSIONS)}"
                )
        elif key.value == "nlu":
            _read_nlu(value, name, file)
        else:
            file.notices.append(f"{_place(name, key)}: {str(key.value)[:60]!r} was not imported")
    return file


def dump(examples: Iterable[tuple[str, str, Sequence[AnnotatedSlot]]], rules: SlotRules) -> str:
    """`examples`: text, intent, slots. Raises AnnotationError for a text that Rasa's notation
    cannot express. Texts of several lines become lists of scalars."""
    marked_of: dict[str, list[str]] = defaultdict(list)
    for text, intent, slots in examples:
        marked_of[intent].append(mark(text, slots))
    parts = ['version: "3.1"\n\nnlu:\n']
    for intent, texts in marked_of.items():
        parts += _dump_entry("intent", intent, texts)
    texts_of: dict[tuple[str, str], list[str]] = defaultdict(list)
    for kind, name, text in rules.rows():
        texts_of[kind, name].append(text)
    for (kind, name), texts in texts_of.items():
        parts += _dump_entry(kind, name, texts)
    return "".join(parts)


def _dump_entry(kind: str, name: str, texts: Sequence[str]) -> Iterator[str]:
    yield f"- {kind}: {_quoted(name)}\n"
    if all(_fits_a_block(text) for text in texts):
        yield "  examples: |\n"
        yield from (f"    - {text}\n" for text in texts)
    else:
        yield "  examples:\n"
        yield from (f"  - text: {_quoted(text)}\n" for text in texts)


def _fits_a_block(text: str) -> bool:
    return bool(text) and text.isprintable() and text == text.strip()


def _quoted(text: str) -> str:
    quoted: str = yaml.safe_dump(text, default_style='"', width=10**9, allow_unicode=True)
    return quoted.removesuffix("\n")


def _compose(content: str, name: str) -> yaml.Node | None:
    try:
        _refuse_tricks(content, name)
        return yaml.compose(content, Loader=Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        reason = getattr(error, "problem", None) or str(error).split("\n", maxsplit=1)[0]
        raise TrainingDataError(
            [f"{name}:{line}: not valid YAML ({reason}); correct it"]
        ) from error


def _refuse_tricks(content: str, name: str) -> None:
    """No aliases (a few lines can name billions of nodes) and no deep nesting."""
    depth = 0
    for event in yaml.parse(content, Loader=Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if getattr(event, "anchor", None) is not None:
            raise TrainingDataError(
                [f"{name}:{line}: anchors and aliases are not allowed; write the value out"]
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise TrainingDataError(
                [f"{name}:{line}: nested more than {MAX_DEPTH} levels deep; flatten it"]
            )


def _read_nlu(node: yaml.Node, name: str, file: RasaFile) -> None:
    if isinstance(node, yaml.ScalarNode) and not node.value:
        return  # an empty list, as people write it
    if not isinstance(node, yaml.SequenceNode):
        file.problems.append(f"{_place(name, node)}: `nlu:` must be a list; start it with `- `")
        return
    for item in node.value:
        if not isinstance(item, yaml.MappingNode):
            file.problems.append(f"{_place(name, item)}: expected `- intent: name`")
            continue
        entry = {str(key.value): value for key, value in item.value}
        kind = next((kind for kind in ("intent", *RULE_KINDS) if kind in entry), None)
        if kind is None:
            unknown = next(iter(entry), "entry")
            label = str(getattr(entry.get(unknown), "value", ""))[:60]
            file.notices.append(f"{_place(name, item)}: {unknown} {label!r} was not imported")
        elif not isinstance(entry[kind], yaml.ScalarNode):
            file.problems.append(f"{_place(name, item)}: the {kind}'s name must be plain text")
        elif "examples" not in entry:
            file.problems.append(
                f"{_place(name, item)}: {kind} {entry[kind].value!r} has no `examples:`"
            )
        else:
            label = entry[kind].value
            for text, line in _read_examples(entry["examples"], name, file):
                if kind == "intent":
                    _add_example(text, label, f"{name}:{line}", line, file)
                else:
                    _add_rule(kind, label, text, f"{name}:{line}", file)


def _add_example(text: str, intent: str, place: str, line: int, file: RasaFile) -> None:
    try:
        found = annotation.parse(text)
    except AnnotationError as error:
        file.problems.append(f"{place}: {error}")
    else:
        file.examples.append(RasaExample(found.text, intent, line, found.slots))
        file.notices += (f"{place}: {notice}" for notice in found.notices)


def _add_rule(kind: str, name: str, text: str, place: str, file: RasaFile) -> None:
    if problems := rule_problems(kind, name, text):
        file.problems += (f"{place}: {problem}" for problem in problems)
    else:
        file.rules.append((kind, name, text))


def _read_examples(node: yaml.Node, name: str, file: RasaFile) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.ScalarNode):
        # A block's text begins on the line below its `|`.
        first = node.start_mark.line + (2 if node.style in {"|", ">"} else 1)
        for number, line in enumerate(node.value.split("\n"), start=first):
            text = line.strip()
            if text.startswith("- ") or text == "-":
                yield text[1:].strip(), number
            elif text:
                file.notices.append(f"{name}:{number}: not imported, as it lacks the leading `- `")
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            text_node = item
            if isinstance(item, yaml.MappingNode):
                entry = {str(key.value): value for key, value in item.value}
                text_node = entry.get("text")
            if isinstance(text_node, yaml.ScalarNode):
                yield text_node.value.strip(), text_node.start_mark.line + 1
            else:
                file.problems.append(f"{_place(name, item)}: expected `- text: ...`")
    else:
        file.problems.append(f"{_place(name, node)}: `examples:` must be a `|` block or a list")


def _place(name: str, node: yaml.Node) -> str:
    return f"{name}:{node.start_mark.line + 1}"


def _error(name: str, node: yaml.Node, message: str) -> TrainingDataError:
    return TrainingDataError([f"{_place(name, node)}: {message}"])
