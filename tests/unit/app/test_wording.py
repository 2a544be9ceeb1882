"""What the bot says in the operator's words, and how it understands a choice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dialogue.responses import IntentReplies, ReplyBook, readable, variables_in
from app.dialogue.state import DialogueState, Option
from app.dialogue.wording import ask_which, chosen_option
from intent.interface import OUT_OF_SCOPE

OPTIONS = (Option("cancel_order", "Cancel an order"), Option("return_item", "Return an item"))
THREE = (*OPTIONS, Option("track_order", "Track an order"))
braced = st.text(alphabet="abc{}_ ", max_size=20)


def book(*variants: str, **variables: str) -> ReplyBook:
    return ReplyBook({"greet": IntentReplies("Say hello", variants)}, variables)


def replies(of: ReplyBook, times: int, state: DialogueState | None = None) -> list[str | None]:
    state, said = state or DialogueState(), []
    for _ in range(times):
        said.append(of.reply("greet", state))
        state = state.after_answer("greet", ())
    return said


def test_variants_take_turns() -> None:
    assert replies(book("One.", "Two."), 5) == ["One.", "Two.", "One.", "Two.", "One."]


@given(st.lists(st.text("abc", min_size=1), min_size=1, max_size=5, unique=True))
def test_no_variant_comes_again_before_all_others_were_said(variants: list[str]) -> None:
    assert replies(book(*variants), 2 * len(variants)) == variants * 2


def test_variables_are_filled_in_and_the_conversations_own_win() -> None:
    named = DialogueState(variables={"name": "Ada"})
    assert book("Hi {name} of {shop}!", name="you", shop="Ours").reply("greet", named) == (
        "Hi Ada of Ours!"
    )


def test_a_variant_with_an_unknown_variable_is_left_out() -> None:
    assert replies(book("Hi {name}!", "Hi!"), 2) == ["Hi!", "Hi!"]
    assert book("Hi {name}!").reply("greet", DialogueState()) is None


@given(braced, braced)
def test_what_a_user_supplied_is_said_as_it_is(name: str, secret: str) -> None:
    state = DialogueState(variables={"name": name, "a": secret})
    assert book("Hi {name}!").reply("greet", state) == f"Hi {name}!"


@pytest.mark.parametrize("intent", ["unheard_of", OUT_OF_SCOPE])
def test_an_intent_without_replies_and_out_of_scope_have_nothing_to_say(intent: str) -> None:
    told = ReplyBook({OUT_OF_SCOPE: IntentReplies("", ("Never said.",))})
    assert told.reply(intent, DialogueState()) is None


def test_braces_that_name_no_variable_are_text() -> None:
    assert variables_in("{} {1} {not a name} {name}") == {"name"}
    assert book("{} {1}").reply("greet", DialogueState()) == "{} {1}"


def test_an_intent_without_a_title_is_shown_readably() -> None:
    assert book().title("greet") == "Say hello"
    assert book().title("faq/opening_hours") == "Opening hours"
    assert readable("track-order") == "Track order"


def test_the_question_names_every_option() -> None:
    assert all(option.title in ask_which(OPTIONS) for option in OPTIONS)


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ("Return an item", 1),
        ("return an item!", 1),
        ("return_item", 1),
        ("cancel order", 0),
        ("1", 0),
        ("2.", 1),
        ("the first", 0),
        ("the second one", 1),
        ("Second one, please", 1),
        ("option 2", 1),
        ("number 1", 0),
        ("the former", 0),
        ("the latter", 1),
        ("the last one", 1),
    ],
)
def test_an_option_is_chosen_by_title_name_or_place(said: str, place: int) -> None:
    assert chosen_option(said, OPTIONS) == OPTIONS[place].intent


def test_the_last_of_three_is_the_third() -> None:
    assert chosen_option("the third one", THREE) == "track_order"
    assert chosen_option("the last one", THREE) == "track_order"


@pytest.mark.parametrize("said", ["", "?!", "what?", "3", "the third one", "order", "no", "12"])
def test_anything_else_chooses_nothing(said: str) -> None:
    assert chosen_option(said, OPTIONS) is None


@pytest.mark.parametrize("said", ["1", "the last one", "Cancel an order", ""])
def test_nothing_is_chosen_where_nothing_was_asked(said: str) -> None:
    assert chosen_option(said, ()) is None


@given(st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=1, unique=True))
def test_an_options_own_title_always_chooses_it(titles: list[str]) -> None:
    """Also where titles differ in signs only (C++ and C#, two emoji), or are numbers."""
    options = tuple(Option(f"intent_{n}", title) for n, title in enumerate(titles))
    assert [chosen_option(title, options) for title in titles] == [
        option.intent for option in options
    ]
