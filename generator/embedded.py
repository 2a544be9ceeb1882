"""Answers from the operator's passages, in their words. Nothing to download, nothing invented."""

import re
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence

from generator.grounding import find_answer
from generator.interface import ChatMessage, Citation, Limits, Passage, Piece
from generator.sentences import Sentence
from generator.words import words_as_said

WORDS_PER_PIECE = 4

UNKNOWN = (
    "I could not find that in our help pages, and I would rather not guess. "
    "Could you put it another way, or shall I pass you on to a person?",
    "I'm afraid I don't know that one. "
    "You could try other words, or I can hand you over to one of my human colleagues.",
    "I don't have an answer to that, sorry. "
    "Would you like to rephrase the question, or talk to someone from the team?",
    "That is beyond what I know, I'm sorry to say. "
    "A person can look into it for you, or you could ask me in different words.",
    "Sorry, our help pages don't tell me that. "
    "I can get you a human, or you could describe it a little differently.",
)

SMALL_TALK: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (
        re.compile(r"(?:ok |okay |great |perfect |cool |super )?(?:many )?(?:thanks?|thx|cheers|ty)"
                   r"(?: you)?(?: a lot| so much| very much| again| for (?:your|the) help)?"
                   r"(?: (?:bye|goodbye))?"),
        ("You're welcome! Is there anything else I can look up?", "My pleasure. Ask away if "
         "anything else comes up."),
    ),
    (
        re.compile(r"(?:so )?(?:are|r) (?:you|u) (?:a |an )?(?:real |actual )?(?:robot|bot|chatbot"
                   r"|ai|machine|human|person|real)(?: or .*)?|(?:am i (?:talking|speaking) (?:to|"
                   r"with)|is this) (?:a |an )?(?:real )?(?:robot|bot|ai|machine|human|person)"
                   r"|who are you|what are you"),
        ("I'm a chatbot. I answer from the help pages, and I can pass you on to a person.",),
    ),
    (
        re.compile(r"(?:hi|hello|hey|good (?:morning|afternoon|evening|day))(?: there| you)?"),
        ("Hello! What would you like to know?", "Hi there! How can I help?"),
    ),
    (
        re.compile(r"how are you(?: doing)?(?: today)?|how is it going"),
        ("All well here, thank you. What can I look up for you?",),
    ),
    (
        re.compile(r"(?:good ?bye|bye(?: bye)?|see you(?: later)?|that is all|that's all)"),
        ("Goodbye, and take care!", "Bye for now!"),
    ),
)  # fmt: skip


class EmbeddedGenerator:
    def __init__(self, name: str = "embedded") -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        passages: Sequence[Passage] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen, safe to share
    ) -> AsyncIterator[Piece]:
        """Whole sentences of the passages; `limits` never cut one, they are short anyway."""
        for piece in self._pieces(messages, passages):
            yield piece

    def _pieces(
        self, messages: Sequence[ChatMessage], passages: Sequence[Passage]
    ) -> Iterator[Piece]:
        text = next((m.text for m in reversed(messages) if m.role == "user"), "")
        small = small_talk(text)
        if small is not None:
            yield from (Piece(part, self._name) for part in _in_parts(small))
            return
        answer = find_answer(messages, passages)
        if answer is None:
            for part in _in_parts(_pick(UNKNOWN, text)):
                yield Piece(part, self._name, answered=False)
            return
        for sentence, shown in zip(answer.sentences, _joined(answer.sentences), strict=True):
            for number, part in enumerate(_in_parts(shown)):
                citations = (_citation(sentence),) if number == 0 else ()
                yield Piece(part, self._name, citations)

    async def aclose(self) -> None:
        return


def small_talk(text: str) -> str | None:
    said = " ".join(words_as_said(text))
    for pattern, replies in SMALL_TALK:
        if pattern.fullmatch(said):
            return _pick(replies, text)
    return None


def _pick(wordings: Sequence[str], text: str) -> str:
    """Not always the same, but the same for the same question."""
    return wordings[zlib.crc32(text.encode("utf-8", "replace")) % len(wordings)]


def _joined(sentences: Sequence[Sentence]) -> list[str]:
    """The sentences with what stands between them: items of a list run on as one sentence."""
    texts: list[str] = []
    for number, sentence in enumerate(sentences):
        following = sentences[number + 1] if number + 1 < len(sentences) else None
        ended = sentence.shown.endswith((".", "!", "?", ":", ";", ",", "…", "”", '"'))
        if following is None:
            separator = "" if ended else "."
        elif ended:
            separator = " "
        else:
            separator = "; " if following.is_item else ". "
        texts.append(sentence.shown + separator)
    return texts


def _in_parts(text: str) -> Iterator[str]:
    each_word = re.findall(r"\S+\s*", text)
    for start in range(0, len(each_word), WORDS_PER_PIECE):
        yield "".join(each_word[start : start + WORDS_PER_PIECE])


def _citation(sentence: Sentence) -> Citation:
    passage = sentence.passage
    return Citation(passage.id, passage.document, passage.title, sentence.quote)
