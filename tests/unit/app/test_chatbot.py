"""One turn, start to finish, with a journal in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from app.dialogue.chatbot import Accepted, Chatbot, Delta, Finished, Found, Reading, TurnEvent
from app.dialogue.cost import Effort
from app.dialogue.pressure import Pressure
from app.dialogue.responses import IntentReplies, ReplyBook
from app.dialogue.routing import Cause, Route, RoutingPolicy
from app.dialogue.state import DialogueState
from app.dialogue.turn import Decide, Reply, Timing, Turn, TurnStatus
from app.dialogue.wording import APOLOGY, NOT_TODAY
from generator.interface import (
    ChatMessage,
    Citation,
    Generator,
    GeneratorOverloaded,
    GeneratorTimeout,
    Limits,
    Passage,
    Piece,
    TokensBy,
    Usage,
)
from generator.scripted import ScriptedGenerator
from intent.interface import Prediction, RankedIntent, TopicTracker
from tests.fakes import NOTHING, FakeTracker, prediction

SURE = prediction(("greet", 0.95), ("goodbye", 0.05))
CLOSE = prediction(("greet", 0.48), ("goodbye", 0.44))
UNSURE = prediction(("greet", 0.5), ("goodbye", 0.04))
BOOK = ReplyBook(
    {
        "greet": IntentReplies("Say hello", ("Hello!", "Hi!")),
        "goodbye": IntentReplies("Say goodbye", ("Bye!",)),
        "silent": IntentReplies("Silent", ()),
    }
)
PASSAGE = Passage("7", "Opening hours", "Open from 9 to 5.", "Shop")
TURN = Turn("t1", "c1", "ada", 1, TurnStatus.GENERATING, "hello", fence=1)


@dataclass
class FakeReader:
    prediction: Prediction | None
    model_version: int | None = 3
    tracker: TopicTracker | None = None

    async def read(self, text: str) -> Reading:
        return Reading(
            self.prediction, self.model_version, BOOK, classify_ms=0.5, tracker=self.tracker
        )


@dataclass
class FakeJournal:
    """Does at once what the database's journal does in transactions."""

    state: DialogueState = field(default_factory=DialogueState)
    said_before: Sequence[ChatMessage] = ()
    replayed: bool = False
    behind_another: bool = False
    grown: list[str] = field(default_factory=list)
    used: list[Usage | None] = field(default_factory=list)
    turn: Turn = TURN
    timing: Timing | None = None

    async def accept(self, decide: Decide, timing: Callable[[], Timing]) -> Turn:
        if self.replayed:
            return replace(self.turn, replayed=True)
        if self.behind_another:
            return replace(self.turn, status=TurnStatus.ACCEPTED, fence=0)
        verdict = decide(self.state)
        self.state = verdict.state
        self.turn = replace(
            self.turn,
            decision=verdict.decision,
            reply=verdict.reply,
            model_version=verdict.model_version,
            status=TurnStatus.DONE if verdict.reply else TurnStatus.GENERATING,
        )
        return self.turn

    async def begin(self, decide: Decide, timing: Callable[[], Timing], *, deadline: float) -> Turn:
        if self.behind_another:
            raise TimeoutError
        return await self.accept(decide, timing)

    async def history(self) -> Sequence[ChatMessage]:
        return self.said_before

    async def grow(self, text: str, usage: Usage | None = None) -> None:
        self.grown.append(text)
        self.used.append(usage)

    async def finish(self, reply: Reply, timing: Timing) -> Turn:
        self.timing = timing
        self.turn = replace(self.turn, status=TurnStatus.DONE, reply=reply)
        return self.turn

    async def fail(self, code: str, timing: Timing) -> Turn:
        self.timing = timing
        self.turn = replace(self.turn, status=TurnStatus.FAILED, error_code=code)
        return self.turn


async def no_passages(messages: Sequence[ChatMessage]) -> Found:
    return Found(())


def chatbot(
    read: Prediction | None,
    generator: Generator | None = None,
    *,
    find_passages: Callable = no_passages,
    tracker: TopicTracker | None = None,
    **options: object,
) -> Chatbot:
    return Chatbot(
        reader=FakeReader(read, 3 if read else None, tracker),
        policy=RoutingPolicy(),
        generator=generator or ScriptedGenerator(["A story about a fox."]),
        find_passages=find_passages,
        **options,
    )


def events_of(
    bot: Chatbot, journal: FakeJournal, text: str = "hello", deadline: float | None = None
) -> list[TurnEvent]:
    async def collect() -> list[TurnEvent]:
        return [one async for one in bot.answer(text, journal, deadline_seconds=deadline)]

    return asyncio.run(collect())


def deltas(events: Sequence[TurnEvent]) -> list[Delta]:
    return [one for one in events if isinstance(one, Delta)]


def test_a_sure_prediction_is_answered_in_the_commit_that_stores_it() -> None:
    journal, generator = FakeJournal(), ScriptedGenerator(["never said"])
    events = events_of(chatbot(SURE, generator), journal)
    assert events == [Accepted(journal.turn), Finished(journal.turn)]
    assert journal.turn.reply == Reply("Hello!")
    assert journal.turn.model_version == 3
    assert journal.state.said == {"greet": 1}
    assert generator.calls == []


def test_a_close_prediction_asks_back_and_remembers_what_it_asked() -> None:
    journal = FakeJournal()
    events_of(chatbot(CLOSE), journal)
    assert journal.turn.decision.route is Route.CLARIFY
    assert [one.title for one in journal.turn.reply.choices] == ["Say hello", "Say goodbye"]
    assert journal.state.pending == journal.turn.reply.choices


def test_the_choice_is_answered_whatever_the_network_makes_of_it() -> None:
    journal = FakeJournal()
    events_of(chatbot(CLOSE), journal)
    events_of(chatbot(NOTHING), journal, "the second one")
    assert journal.turn.reply == Reply("Bye!")
    assert journal.turn.decision.cause is Cause.CHOSEN
    assert journal.state.pending == ()


def test_an_open_ended_message_is_generated_piece_by_piece() -> None:
    journal = FakeJournal()
    events = events_of(chatbot(NOTHING), journal)
    pieces = deltas(events)
    assert "".join(one.text for one in pieces) == "A story about a fox."
    assert [one.offset for one in pieces] == [0, 2, 8, 14, 16]
    assert journal.grown == [one.text for one in pieces]
    assert events[-1] == Finished(journal.turn)
    assert journal.turn.reply == Reply("A story about a fox.", generator="scripted")
    assert journal.timing.total_ms >= journal.timing.first_piece_ms >= journal.timing.classify_ms


def test_an_intent_without_a_reply_goes_to_the_generator_and_says_so() -> None:
    journal = FakeJournal()
    events_of(chatbot(prediction(("silent", 0.99))), journal)
    decision = journal.turn.decision
    assert (decision.route, decision.cause) == (Route.GENERATE, Cause.NO_REPLY)
    assert decision.intent == "silent"
    assert journal.turn.reply.text == "A story about a fox."


def test_a_follow_up_goes_to_the_generator_with_what_was_said() -> None:
    journal, generator = FakeJournal(), ScriptedGenerator(["Not on Sundays."])
    events_of(chatbot(SURE, generator, tracker=FakeTracker(0.9)), journal)
    assert journal.state.topics[0] == RankedIntent("greet", 0.95)
    journal.said_before = (ChatMessage("user", "hello"), ChatMessage("assistant", "Hello!"))
    events_of(chatbot(NOTHING, generator, tracker=FakeTracker(0.9)), journal, "and tomorrow?")
    decision = journal.turn.decision
    assert (decision.route, decision.cause) == (Route.GENERATE, Cause.FOLLOW_UP)
    assert (decision.intent, decision.goes_on) == ("greet", 0.9)
    asked = (*journal.said_before, ChatMessage("user", "and tomorrow?"))
    assert tuple(generator.calls[-1].messages) == asked
    assert journal.state.topics[0].intent == "greet"


def test_what_was_just_answered_is_the_topic_whatever_the_tracker_believes() -> None:
    journal, tracker = FakeJournal(), FakeTracker(0.9)
    events_of(chatbot(prediction(("goodbye", 0.9), ("greet", 0.1)), tracker=tracker), journal)
    events_of(chatbot(SURE, tracker=tracker), journal)
    assert journal.turn.reply == Reply("Hello!")
    assert [one.intent for one in journal.state.topics] == ["greet", "goodbye"]
    believed = dict(journal.state.topics)
    assert believed == pytest.approx({"greet": 0.55 + 0.45 * 0.1, "goodbye": 0.45 * 0.9})
    events_of(chatbot(NOTHING, tracker=tracker), journal, "and tomorrow?")
    assert journal.turn.decision.intent == "greet"


def test_nothing_follows_a_message_that_was_about_nothing_known() -> None:
    journal, tracker = FakeJournal(), FakeTracker(0.9)
    for _ in range(2):
        events_of(chatbot(NOTHING, tracker=tracker), journal, "sing me a song")
        assert journal.turn.decision.cause is Cause.OUT_OF_SCOPE
        assert journal.turn.decision.goes_on is None
        assert journal.state.topics == ()


def test_what_was_picked_is_what_a_follow_up_goes_on_with() -> None:
    journal, tracker = FakeJournal(), FakeTracker(0.9)
    events_of(chatbot(CLOSE, tracker=tracker), journal)
    events_of(chatbot(NOTHING, tracker=tracker), journal, "the second one")
    assert journal.state.topics == (RankedIntent("goodbye", 1.0),)
    events_of(chatbot(NOTHING, tracker=tracker), journal, "and tomorrow?")
    assert journal.turn.decision.intent == "goodbye"


def test_before_the_first_promotion_everything_is_generated() -> None:
    journal = FakeJournal()
    events_of(chatbot(None), journal)
    assert journal.turn.decision.cause is Cause.NO_MODEL_VERSION
    assert journal.turn.model_version is None
    assert journal.turn.status is TurnStatus.DONE


@pytest.mark.parametrize(("pieces", "heard"), [(0, ""), (2, "A story ")])
def test_a_failing_generator_fails_the_turn_with_its_code(pieces: int, heard: str) -> None:
    full = GeneratorOverloaded("full")
    generator = ScriptedGenerator(["A story about a fox."], error=full, error_after=pieces)
    journal = FakeJournal()
    events = events_of(chatbot(NOTHING, generator), journal)
    assert "".join(one.text for one in deltas(events)) == heard
    assert events[-1] == Finished(journal.turn)
    assert (journal.turn.status, journal.turn.error_code) == (
        TurnStatus.FAILED,
        "generator_overloaded",
    )


def test_at_the_deadline_the_text_so_far_is_the_reply_and_the_generator_stops() -> None:
    async def scene() -> tuple[FakeJournal, ScriptedGenerator]:
        generator = ScriptedGenerator(["One two three."], wait_before={2: asyncio.Event()})
        journal = FakeJournal()
        answer = chatbot(NOTHING, generator).answer("hello", journal, deadline_seconds=0.05)
        async for _ in answer:
            pass
        return journal, generator

    journal, generator = asyncio.run(scene())
    assert journal.turn.reply == Reply("One two ", generator="scripted", degraded="deadline")
    assert generator.abandoned == 1


def test_a_deadline_before_the_first_piece_ends_in_an_apology() -> None:
    async def scene() -> tuple[FakeJournal, list[TurnEvent]]:
        generator = ScriptedGenerator(["One."], wait_before={0: asyncio.Event()})
        journal = FakeJournal()
        answer = chatbot(NOTHING, generator).answer("hello", journal, deadline_seconds=0.05)
        return journal, [one async for one in answer]

    journal, events = asyncio.run(scene())
    assert journal.turn.reply == Reply(APOLOGY, generator="fixed", degraded="deadline")
    assert deltas(events) == [Delta(APOLOGY, offset=0)]


def test_the_generators_own_limit_is_a_deadline_too() -> None:
    async def scene() -> FakeJournal:
        generator = ScriptedGenerator(["One."], wait_before={0: asyncio.Event()})
        journal = FakeJournal()
        bot = chatbot(NOTHING, generator, limits=Limits(seconds=0.05))
        async for _ in bot.answer("hello", journal):
            pass
        return journal

    assert asyncio.run(scene()).turn.reply.degraded == "deadline"


def test_a_generator_is_told_how_much_time_is_left_of_the_deadline() -> None:
    generator = ScriptedGenerator(["One"])
    bot = chatbot(NOTHING, generator, limits=Limits(max_tokens=7, seconds=60))
    events_of(bot, FakeJournal(), deadline=5)
    events_of(bot, FakeJournal(), deadline=100)
    hurried, usual = (call.limits for call in generator.calls)
    assert 0 < hurried.seconds <= 5 < usual.seconds <= 60
    assert hurried.max_tokens == 7


@pytest.mark.parametrize(
    ("seconds", "ended"), [(0.05, ("done", "deadline")), (60, ("failed", None))]
)
def test_a_generator_that_times_out_at_our_deadline_only_says_so_first(
    seconds: float, ended: tuple[str, str | None]
) -> None:
    late = ScriptedGenerator(["One two"], error=GeneratorTimeout("late"), error_after=1)
    journal = FakeJournal()
    bot = chatbot(NOTHING, late, limits=Limits(seconds=seconds))
    events_of(bot, journal)
    reply = journal.turn.reply
    assert (journal.turn.status, reply.degraded if reply else None) == ended


def test_a_generator_that_says_nothing_is_apologised_for() -> None:
    journal = FakeJournal()
    events = events_of(chatbot(NOTHING, ScriptedGenerator([""])), journal)
    assert deltas(events) == [Delta(APOLOGY, offset=0)]
    assert journal.turn.reply == Reply(APOLOGY, generator="fixed", degraded="no_reply")


def test_a_replayed_turn_is_left_to_whoever_answers_it() -> None:
    generator = ScriptedGenerator(["never said"])
    journal = FakeJournal(replayed=True)
    events = events_of(chatbot(NOTHING, generator), journal)
    assert events == [Accepted(replace(TURN, replayed=True))]
    assert generator.calls == []


def test_who_stops_listening_stops_the_generator() -> None:
    async def scene() -> tuple[int, int]:
        generator = ScriptedGenerator(["One two three."])
        answer = chatbot(NOTHING, generator).answer("hello", FakeJournal())
        async for event in answer:
            if isinstance(event, Delta):
                break
        await answer.aclose()
        return generator.abandoned, generator.pieces_said

    assert asyncio.run(scene()) == (1, 1)


def test_citations_are_kept_once() -> None:
    quote = Citation("7", "Shop", "Opening hours", "Open from 9 to 5.")
    journal = FakeJournal()
    generator = ScriptedGenerator(["From 9 to 5."], citations=[quote, quote])
    events_of(chatbot(NOTHING, generator), journal)
    assert journal.turn.reply.citations == (quote,)


def test_the_generator_gets_system_prompt_history_passages_and_the_question_last() -> None:
    async def found(messages: Sequence[ChatMessage]) -> Found:
        return Found((PASSAGE,))

    generator = ScriptedGenerator(["Yes."])
    before = [ChatMessage("user", "are you open"), ChatMessage("assistant", "Yes.")]
    bot = chatbot(NOTHING, generator, find_passages=found, system_prompt="Be kind.")
    events_of(bot, FakeJournal(said_before=before), "and on the Sunday after Easter Monday")
    (call,) = generator.calls
    assert call.passages == (PASSAGE,)
    assert call.messages == (
        ChatMessage("system", "Be kind."),
        *before,
        ChatMessage("user", "and on the Sunday after Easter Monday"),
    )


def test_passages_are_looked_for_with_the_history() -> None:
    asked: list[Sequence[ChatMessage]] = []

    async def found(messages: Sequence[ChatMessage]) -> Found:
        asked.append(messages)
        return Found(())

    before = [ChatMessage("user", "when are you open"), ChatMessage("assistant", "At 9.")]
    bot = chatbot(NOTHING, find_passages=found, system_prompt="Be kind.")
    events_of(bot, FakeJournal(said_before=before), "and on Sunday?")
    assert asked == [[*before, ChatMessage("user", "and on Sunday?")]]


def test_explaining_decides_alike_and_stores_nothing() -> None:
    async def scene() -> tuple[Prediction | None, Route]:
        guess, decision = await chatbot(CLOSE).explain("hello", DialogueState())
        return guess, decision.route

    assert asyncio.run(scene()) == (CLOSE, Route.CLARIFY)


def test_the_last_piece_may_bring_nothing_but_what_the_reply_took() -> None:
    class Counting(ScriptedGenerator):
        async def stream(self, *arguments: object) -> AsyncIterator[Piece]:
            yield Piece("Once.", self.name, usage=Usage(1.0))
            yield Piece("", self.name, usage=Usage(2.0))

    async def found(messages: Sequence[ChatMessage]) -> Found:
        return Found((), cpu_seconds=0.5)

    journal = FakeJournal()
    events = events_of(chatbot(NOTHING, Counting([]), find_passages=found), journal)
    assert [one.text for one in events if isinstance(one, Delta)] == ["Once."]
    assert journal.turn.reply == Reply("Once.", generator="scripted", usage=Usage(2.5))
    assert journal.used == [Usage(1.5), Usage(2.5)]


def spent() -> Pressure:
    return Pressure.SPENT


def test_where_the_budget_is_spent_no_generator_is_asked_and_that_is_said() -> None:
    generator, journal = ScriptedGenerator(["A story about a fox."]), FakeJournal()
    events = events_of(chatbot(NOTHING, generator, press=spent), journal)
    assert generator.calls == []
    assert [one.text for one in deltas(events)] == [NOT_TODAY]
    assert journal.turn.reply is not None
    assert (journal.turn.reply.text, journal.turn.reply.degraded) == (NOT_TODAY, "budget")
    assert journal.turn.decision is not None
    assert journal.turn.decision.pressure is Pressure.SPENT


def test_a_turn_that_began_before_the_budget_was_spent_is_held_to_it_too() -> None:
    """As one that is retried, adopted from another process, or has waited."""
    generator = ScriptedGenerator(["A story about a fox."])

    class Begun(FakeJournal):
        async def accept(self, decide: Decide, timing: Callable[[], Timing]) -> Turn:
            return self.turn

    journal = Begun()
    events_of(chatbot(NOTHING, generator, press=spent), journal)
    assert generator.calls == []
    assert journal.turn.reply is not None
    assert journal.turn.reply.degraded == "budget"


def test_what_is_known_is_answered_and_what_is_not_sure_asked_about_on_no_budget() -> None:
    for read, route in ((SURE, Route.INSTANT), (UNSURE, Route.CLARIFY)):
        journal = FakeJournal()
        events_of(chatbot(read, press=spent), journal)
        assert journal.turn.decision is not None
        assert journal.turn.decision.route is route
        assert journal.turn.reply is not None
        assert journal.turn.reply.degraded is None


def test_what_generating_takes_is_told_as_it_is_taken() -> None:
    told: list[Effort] = []

    async def search(messages: Sequence[ChatMessage]) -> Found:
        return Found((), cpu_seconds=0.5)

    generator = ScriptedGenerator(["One two."], usage=Usage(2.0, 30, 4, TokensBy.ENGINE))
    events_of(chatbot(NOTHING, generator, find_passages=search, spend=told.append), FakeJournal())
    assert told[0] == Effort(0.5)
    assert sum(told, Effort()) == Effort(2.5, 30, 4)
