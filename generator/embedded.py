"""Answers from the operator's passages. Nothing to download, nothing invented."""

import asyncio
import re
import time
import unicodedata
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from generator.interface import ChatMessage, Citation, Limits, Passage, Piece, Usage
from generator.question import Question, last_messages
from generator.quoting import best_sentences, in_company
from generator.reader import Reader
from generator.sentences import Sentence
from generator.verification import is_supported, without_yes_or_no
from generator.writer import Writer

Said = list[tuple[str, tuple[Citation, ...]]]
"""What to say, each part with what it cites."""

WORDS_PER_PIECE = 4
MOST_PASSAGES = 5
"""So many of the best are read, at about 15 CPU-milliseconds each where they were not of late."""
SUPPORT_NEEDED = 0.45
"""Chosen on six fields of benchmarks/answers/train."""
CONFIDENCE_NEEDED = 0.3

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
    """Reads the passages, writes from the sentences that answer, and checks what it wrote."""

    def __init__(self, reader: Reader, writer: Writer, name: str = "embedded") -> None:
        self._reader, self._writer = reader, writer
        self._name = name
        # One thread: the networks are for one at a time, and chats go on beside it.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded")

    @classmethod
    def load(cls, reader: Reader | None = None) -> "EmbeddedGenerator":
        """With the networks that come with Twofold."""
        reader = reader or Reader()
        return cls(reader, Writer(reader))

    @property
    def name(self) -> str:
        return self._name

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        passages: Sequence[Passage] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen, safe to share
    ) -> AsyncIterator[Piece]:
        """One to three sentences; `limits` never cut one, they are short anyway."""
        text, _ = last_messages(messages)
        small = small_talk(text)
        if small is not None:
            for part in _in_parts(small):
                yield Piece(part, self._name, usage=Usage())
            return
        loop = asyncio.get_running_loop()
        answer, usage = await loop.run_in_executor(self._thread, self._timed, messages, passages)
        if answer is None:
            for part in _in_parts(_pick(UNKNOWN, text)):
                yield Piece(part, self._name, answered=False, usage=usage)
            return
        for said, citations in answer:
            for number, part in enumerate(_in_parts(said)):
                yield Piece(part, self._name, citations if number == 0 else (), usage=usage)

    def _timed(
        self, messages: Sequence[ChatMessage], passages: Sequence[Passage]
    ) -> tuple[Said | None, Usage]:
        start = time.thread_time()
        answer = self._answer(messages, passages)
        return answer, Usage(cpu_seconds=time.thread_time() - start)

    def _answer(self, messages: Sequence[ChatMessage], passages: Sequence[Passage]) -> Said | None:
        """None where nothing answers."""
        ranked = sorted(passages, key=lambda passage: -passage.score)[:MOST_PASSAGES]
        question = self._reader.question(messages)
        reading = self._reader.read(question, ranked)
        if reading.support < SUPPORT_NEEDED:
            return None
        chosen = best_sentences(reading)
        if len(chosen) == 1 and (written := self._written(question, chosen[0])) is not None:
            return [(written, (_citation(chosen[0]),))]
        quoted = in_company(chosen)
        shown = zip(quoted, _joined(quoted), strict=True)
        return [(said, (_citation(sentence),)) for sentence, said in shown]

    def _written(self, asked: Question, sentence: Sentence) -> str | None:
        """None where the sentence had better be quoted."""
        title = sentence.passage.title
        draft = self._writer.write(asked.text, asked.before, title, [sentence.shown])
        text = without_yes_or_no(draft.text)
        good = draft.complete and draft.confidence >= CONFIDENCE_NEEDED
        supported = is_supported(text, sentence.shown, asked=asked.whole, title=title)
        return text if good and supported else None

    async def aclose(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def small_talk(text: str) -> str | None:
    said = " ".join(WORD.findall(_plain(text)))
    for pattern, replies in SMALL_TALK:
        if pattern.fullmatch(said):
            return _pick(replies, text)
    return None


WORD = re.compile(r"[^\W_]+(?:['.][^\W_]+)*")


def _plain(text: str) -> str:
    """Lower case, without accents."""
    text = unicodedata.normalize("NFKD", text.casefold().replace("’", "'"))
    return "".join(char for char in text if not unicodedata.combining(char))


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
