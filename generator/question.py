"""What a question asks for: its terms and what they weigh, and what its answer must contain."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from generator.interface import ChatMessage
from generator.words import GENERIC, terms, words


@dataclass(frozen=True, slots=True)
class Question:
    weights: dict[str, float]
    """What each term counts; terms that a follow-up takes over from the question before: half."""
    own: frozenset[str]
    cues: tuple[re.Pattern[str], ...]
    """What the answer should contain: an amount, a duration, a permission …"""
    demands: bool
    """A question for a duration or an amount is not answered without one."""
    hints: frozenset[str] = frozenset()
    double: bool = False
    """It may ask for two things, and need two passages."""


def read_question(messages: Sequence[ChatMessage]) -> Question:
    said = [message.text for message in messages if message.role == "user"]
    if not said:
        return Question({}, frozenset(), (), demands=False)
    text = said[-1]
    own = dict.fromkeys(terms(text))
    weights = {each: base_weight(each) for each in own}
    asked_in = [text]
    if len(said) > 1 and _is_follow_up(text, own):
        asked_in.append(said[-2])
        for each in terms(said[-2]):
            weights.setdefault(each, 0.5 * base_weight(each))
    kinds = [kind for kind in QUESTION_KINDS if any(kind.asks.search(t.lower()) for t in asked_in)]
    demands = any(kind.demands and kind.asks.search(text.lower()) for kind in kinds)
    hints = frozenset(each for kind in kinds for each in terms(kind.hints)) - own.keys()
    cues = tuple(kind.answers for kind in kinds)
    double = bool(re.search(r"\w,? and \w|\?.*\?", text))
    return Question(weights, frozenset(own), cues, demands, hints, double)


def base_weight(each: str) -> float:
    if each[0].isdigit():
        return 0.2  # whoever asks about 45 days is rarely answered with the number 45
    return 0.2 if each in GENERIC else 1.0


FOLLOW_UP = re.compile(
    r"^\s*(?:and|or|but|also|what about|how about|what if|same|then|ok(?:ay)?,? (?:and|but)|"
    r"so|is (?:it|that)|are (?:they|those)|does (?:it|that)|do (?:they|those)|how long|how much|"
    r"why|when|where|for)\b",
    re.IGNORECASE,
)


def _is_follow_up(text: str, own: Iterable[str]) -> bool:
    content = [each for each in own if base_weight(each) == 1.0]
    short = len(words(text)) <= 8 and len(content) <= 2
    return not content or (short and bool(FOLLOW_UP.search(text)))


@dataclass(frozen=True, slots=True)
class QuestionKind:
    asks: re.Pattern[str]
    answers: re.Pattern[str]
    demands: bool = False
    hints: str = ""
    """Words that the answer is likely to use though the question does not."""


NUMBER = r"(?:\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|twelve|a few|several)"
DURATION = re.compile(
    rf"\b{NUMBER}(?: (?:to|or|and) {NUMBER})?[ -](?:more |full |working |business |calendar )*"
    r"(?:second|minute|hour|day|week|month|year)s?\b|\b(?:overnight|forever|lifetime|until)\b",
    re.IGNORECASE,
)
LENGTH = re.compile(r"\d ?(?:cm|mm|m|metres?|inch(?:es)?|feet)\b", re.IGNORECASE)
AMOUNT = re.compile(
    rf"[€$£] ?\d|\b{NUMBER} ?(?:%|per ?cent|euros?|eur|dollars?|usd|pounds?|gbp|pence|cents?)"
    r"|\bfree\b|\bnothing\b|\bno (?:extra )?(?:cost|charge|fee)",
    re.IGNORECASE,
)
QUANTITY = re.compile(rf"\b{NUMBER}\b|%|\bno limit\b|\bunlimited\b", re.IGNORECASE)
TIME = re.compile(
    r"\b\d{1,2}(?:[:.]\d\d)? ?(?:am|pm|a\.m|p\.m|o'clock)\b|\b\d{1,2}:\d\d\b|\bnoon\b|\bmidnight\b"
    r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b|\b(?:january|february|march|april|may|june"
    r"|july|august|september|october|november|december)\b|\b(?:as soon as|when|once|within|after"
    rf"|before|until|daily)\b|\b{NUMBER} (?:working |business )?(?:hour|day|week|month)s?\b",
    re.IGNORECASE,
)
PERMISSION = re.compile(
    r"\b(?:can|cannot|can't|may|not|never|no|only|must|always|yes|possible|allowed|accept|accepts"
    r"|offer|free to|unless|able to|have to|has to|need|needs|do|does)\b",
    re.IGNORECASE,
)
STEPS = re.compile(
    r"(?:^|, |; )(?:then |first |please |just )?(?:open|go|click|tap|log|sign|send|choose|enter|"
    r"write|call|pack|print|select|use|visit|email|contact|reply|fill|drop|take|bring|ask|tell|"
    r"wash|rinse|clean|dry|put|measure|follow|add|report|hang|brush|rub|store)\b"
    r"|\byou can\b|\bby \w+ing\b|\bunder (?:My|Your|Account|Settings)\b|\bhas to\b|\bhave to\b",
    re.IGNORECASE,
)
PLACE = re.compile(
    r"\b(?:at|in|under|below|behind|near) (?:the |your |our |my |each |any )?\w+|https?://|\bstreet\b"
    r"|\bfind us\b",
    re.IGNORECASE,
)
PHONE = re.compile(r"\d[\d ()/-]{5,}\d")
WE = re.compile(r"\b(?:we|our)\b", re.IGNORECASE)
EMAIL = re.compile(r"\w@\w")
QUESTION_KINDS = (
    QuestionKind(re.compile(r"\bhow long (?:is|are)\b.*\b(?:in (?:cm|metres|inches)|the \w+)\W*$"),
                 LENGTH),
    QuestionKind(re.compile(r"\bhow (?:long|soon|fast|quickly|old)\b|\bhow many (?:working )?(?:day"
                            r"|week|month|year|hour|minute)s\b"), DURATION, demands=True,
                 hints="time takes last lasts period days"),
    QuestionKind(re.compile(r"\bhow (?:much|expensive)\b|\b(?:cost|price|fee|charge)s?\b(?!d)"
                            r"|\bis (?:\w+ ){1,3}free\b"), AMOUNT, demands=True, hints="costs"),
    QuestionKind(re.compile(r"\bhow (?:many|often|heavy|big|large|far|hot|warm|cold)\b"),
                 QUANTITY, demands=True),
    QuestionKind(re.compile(r"\bwhen\b|\bwhat time\b|\bwhich days?\b|\bdeadline\b|\bopen"), TIME),
    QuestionKind(re.compile(r"^(?:\W*(?:and|so|but|hi|hello|hey)\b)?\W*(?:can|could|may|will|must"
                            r"|should)\b|\bcan i\b|\bdo i (?:have|need)\b|\ballowed\b"),
                 PERMISSION),
    QuestionKind(re.compile(r"\bhow (?:do|can|should|would|to|does)\b|\bwhat (?:should|can|do) i\b"
                            r"|\bi (?:lost|forgot|received|want)\b"), STEPS),
    QuestionKind(re.compile(r"\b(?:do|are|can|will|does|is) (?:you|your|the shop)\b"), WE),
    QuestionKind(re.compile(r"\bwhere\b"), PLACE, hints="find"),
    QuestionKind(re.compile(r"\b(?:phone|telephone|call you|ring you)\b"), PHONE),
    QuestionKind(re.compile(r"\b(?:e-?mail|write to you)\b"), EMAIL),
)  # fmt: skip
