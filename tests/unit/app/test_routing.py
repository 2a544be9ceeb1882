"""Which way a turn goes: laws that hold for every prediction and every dialogue state."""

import json
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from app.dialogue.pressure import Pressure, Strain
from app.dialogue.routing import NO_GROUNDS, Basis, Cause, Decision, Grounds, Route, RoutingPolicy
from app.dialogue.state import DialogueState, Option
from intent.interface import (
    Certificate,
    Continuation,
    OperatingPoint,
    Prediction,
    Promise,
    RankedIntent,
)
from tests.fakes import prediction

shares = st.floats(0, 1)
names = st.text(min_size=1, max_size=20)


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    confidences = sorted(draw(st.lists(shares, min_size=1, max_size=6)), reverse=True)
    ranking = tuple(RankedIntent(f"intent_{n}", one) for n, one in enumerate(confidences))
    return Prediction(
        ranking[0].intent,
        ranking[0].confidence,
        ranking,
        draw(st.booleans()),
        assurance=draw(shares),
    )


policies = st.builds(RoutingPolicy, instant_threshold=shares, least_share_of_second=shares)
points = st.lists(shares, min_size=1, max_size=4, unique=True).map(
    lambda found: tuple(
        OperatingPoint(threshold, answered=0.9, let_through=0.1, wrong=0.03)
        for threshold in sorted(found, reverse=True)
    )
)
certificates = st.builds(
    Certificate,
    promise=st.just(Promise()),
    points=points,
    floors=st.dictionaries(st.just("intent_0"), shares),
)
pressures = st.sampled_from([one for one in Pressure if one is not Pressure.NONE])
states = st.builds(
    DialogueState,
    pending=st.lists(st.builds(Option, names, names), max_size=3).map(tuple),
    said=st.dictionaries(names, st.integers(0, 100), max_size=3),
    variables=st.dictionaries(names, st.text(max_size=20), max_size=3),
    topics=st.lists(
        st.builds(RankedIntent, names, shares.map(lambda one: round(one, 4))), max_size=3
    ).map(tuple),
)
continuations = st.builds(
    Continuation, probability=shares, topics=predictions().map(lambda one: one.ranking)
)
decisions = st.builds(
    Decision,
    route=st.sampled_from(Route),
    cause=st.sampled_from(Cause),
    intent=st.none() | names,
    confidence=shares,
    threshold=shares,
    margin=shares,
    assurance=shares,
    basis=st.sampled_from(Basis),
    goes_on=st.none() | shares,
    pressure=st.sampled_from(Pressure),
    alternatives=predictions().map(
        lambda one: RoutingPolicy().choose(one, DialogueState()).alternatives
    ),
)

CAUSES = {
    Route.INSTANT: {Cause.CONFIDENT},
    Route.CLARIFY: {Cause.CLOSE_INTENTS},
    Route.GENERATE: {Cause.OUT_OF_SCOPE, Cause.UNSURE, Cause.NO_MODEL_VERSION},
}
CLOSE = prediction(("cancel_order", 0.48), ("return_item", 0.44))


@given(policies, predictions(), states)
def test_an_instant_answer_is_in_scope_and_at_least_as_sure_as_the_threshold(
    policy: RoutingPolicy, given_prediction: Prediction, state: DialogueState
) -> None:
    decision = policy.choose(given_prediction, state)
    sure = given_prediction.confidence >= policy.instant_threshold
    assert (decision.route is Route.INSTANT) == (given_prediction.in_scope and sure)


@given(policies, predictions(), states.filter(lambda state: state.pending))
@example(RoutingPolicy(), CLOSE, DialogueState(pending=(Option("greet", "Greet"),)))
def test_it_never_asks_back_while_its_question_is_open(
    policy: RoutingPolicy, given_prediction: Prediction, state: DialogueState
) -> None:
    assert policy.choose(given_prediction, state).route is not Route.CLARIFY


@given(policies, predictions() | st.none(), states)
def test_every_decision_says_why_and_by_how_much(
    policy: RoutingPolicy, given_prediction: Prediction | None, state: DialogueState
) -> None:
    decision = policy.choose(given_prediction, state)
    assert decision.cause in CAUSES[decision.route]
    assert decision.threshold == policy.instant_threshold
    assert 0 <= decision.margin <= decision.confidence <= 1
    if given_prediction is not None:
        assert decision.intent == given_prediction.intent
        assert decision.alternatives[0].intent == given_prediction.intent


@given(policies, predictions(), states)
def test_a_question_offers_two_intents_that_together_are_sure_enough(
    policy: RoutingPolicy, given_prediction: Prediction, state: DialogueState
) -> None:
    decision = policy.choose(given_prediction, state)
    if decision.route is Route.CLARIFY:
        best, second = decision.alternatives[:2]
        assert best.confidence + second.confidence >= policy.clarify_threshold
        assert second.confidence >= policy.least_share_of_second * best.confidence


@given(predictions(), states, shares, shares)
def test_a_stricter_threshold_never_makes_an_answer_instant(
    given_prediction: Prediction, state: DialogueState, one: float, other: float
) -> None:
    loose, strict = (
        RoutingPolicy(instant_threshold=bound).choose(given_prediction, state).route
        for bound in sorted((one, other))
    )
    assert strict is not Route.INSTANT or loose is Route.INSTANT


@given(predictions(), states, certificates)
def test_a_certified_answer_is_as_assured_as_the_certificate_wants(
    given_prediction: Prediction, state: DialogueState, certificate: Certificate
) -> None:
    decision = RoutingPolicy().choose(given_prediction, state, Grounds(certificate))
    assert certificate.point is not None
    least = max(certificate.point.threshold, certificate.floors.get(given_prediction.intent, 0))
    assert (decision.threshold, decision.assurance) == (least, given_prediction.assurance)
    assert decision.basis is Basis.CERTIFIED
    assert (decision.route is Route.INSTANT) == (given_prediction.assurance >= least)


@example(
    prediction(("greet", 0.89), assurance=0.99),
    DialogueState(),
    Certificate(Promise(), (OperatingPoint(0.5, 0.9, 0.1, 0.03),)),
)
@given(predictions(), states, certificates)
def test_traffic_that_nothing_is_certified_for_needs_both_to_be_sure(
    given_prediction: Prediction, state: DialogueState, certificate: Certificate
) -> None:
    policy, elsewhere = RoutingPolicy(), Grounds(certificate, is_usual_traffic=False)
    certified = policy.choose(given_prediction, state, Grounds(certificate)).route
    safe = policy.choose(given_prediction, state).route
    decision = policy.choose(given_prediction, state, elsewhere)
    both = certified is Route.INSTANT and safe is Route.INSTANT
    assert (decision.route is Route.INSTANT) == both
    assert decision.basis is Basis.OTHER_TRAFFIC


@given(predictions(), states, st.none() | certificates, st.none() | certificates, pressures)
def test_pressure_moves_between_certified_thresholds_and_takes_no_answer_away(
    given_prediction: Prediction,
    state: DialogueState,
    certificate: Certificate | None,
    looser: Certificate | None,
    pressure: Pressure,
) -> None:
    policy, grounds = RoutingPolicy(), Grounds(certificate, looser)
    usual = policy.choose(given_prediction, state, grounds)
    pressed = policy.choose(given_prediction, state, grounds, pressure=pressure)
    assert pressed.pressure is pressure
    if pressed.basis is Basis.UNDER_PRESSURE:
        assert looser is not None
        assert looser.point is not None
        floor = looser.floors.get(given_prediction.intent, 0.0)
        assert pressed.threshold == max(looser.point.threshold, floor)
        assert (pressed.route is Route.INSTANT) == (pressed.assurance >= pressed.threshold)
        assert usual.basis is Basis.UNCERTIFIED or pressed.threshold < usual.threshold
    else:
        assert (pressed.basis, pressed.threshold) == (usual.basis, usual.threshold)
        assert (pressed.route is Route.INSTANT) == (usual.route is Route.INSTANT)
    if usual.basis is Basis.CERTIFIED and usual.route is Route.INSTANT:
        assert pressed.route is Route.INSTANT


@given(predictions(), states, certificates, certificates, pressures)
def test_no_pressure_loosens_what_nothing_is_certified_for(
    given_prediction: Prediction,
    state: DialogueState,
    certificate: Certificate,
    looser: Certificate,
    pressure: Pressure,
) -> None:
    policy, elsewhere = RoutingPolicy(), Grounds(certificate, looser, is_usual_traffic=False)
    usual = policy.choose(given_prediction, state, elsewhere)
    pressed = policy.choose(given_prediction, state, elsewhere, pressure=pressure)
    assert (pressed.route is Route.INSTANT) == (usual.route is Route.INSTANT)
    assert pressed.basis is Basis.OTHER_TRAFFIC


@given(predictions(), states, st.none() | continuations)
def test_where_nothing_may_be_generated_it_asks_back_once_rather_than_say_nothing(
    given_prediction: Prediction, state: DialogueState, continuation: Continuation | None
) -> None:
    spent = RoutingPolicy(instant_threshold=1.1).choose(
        given_prediction, state, continuation=continuation, pressure=Pressure.SPENT
    )
    asks = given_prediction.in_scope and not state.pending
    assert (spent.route is Route.CLARIFY) == asks
    assert (spent.cause in (Cause.NOT_AFFORDED, Cause.CLOSE_INTENTS)) == asks


def test_an_overload_begins_and_ends_at_different_shares() -> None:
    strain = Strain()
    taken = [0, 5, 7, 8, 7, 6, 5, 4, 5, 7, 8, 10, 0]
    said = [strain.of(one, 10) for one in taken]
    assert said == [False] * 3 + [True] * 4 + [False] * 3 + [True] * 2 + [False]


@given(shares, predictions(), states, certificates)
def test_a_fixed_threshold_counts_whatever_is_certified(
    bound: float, given_prediction: Prediction, state: DialogueState, certificate: Certificate
) -> None:
    policy = RoutingPolicy(instant_threshold=bound)
    fixed = policy.choose(given_prediction, state, Grounds(certificate))
    assert fixed == policy.choose(given_prediction, state)
    assert fixed.basis is Basis.FIXED


@given(predictions(), states, certificates, continuations)
def test_what_was_said_before_makes_no_answer_instant_and_takes_none_away(
    given_prediction: Prediction,
    state: DialogueState,
    certificate: Certificate,
    continuation: Continuation,
) -> None:
    """What is certified is the classifier alone."""
    policy, grounds = RoutingPolicy(), Grounds(certificate)
    alone = policy.choose(given_prediction, state, grounds)
    followed = policy.choose(given_prediction, state, grounds, continuation)
    assert (followed.route is Route.INSTANT) == (alone.route is Route.INSTANT)
    assert followed.goes_on == continuation.probability
    if followed.route is Route.INSTANT:
        assert followed == replace(alone, goes_on=continuation.probability)


@given(predictions(), states, continuations)
def test_an_unsure_message_that_goes_on_is_about_the_last_topic_and_generated(
    given_prediction: Prediction, state: DialogueState, continuation: Continuation
) -> None:
    policy = RoutingPolicy(instant_threshold=1.1)
    decision = policy.choose(given_prediction, state, continuation=continuation)
    goes_on = continuation.probability >= RoutingPolicy().follow_up_threshold
    if policy.choose(given_prediction, state).route is Route.CLARIFY:
        rivals = [one.intent for one in given_prediction.ranking[:2]]
        goes_on = goes_on and continuation.topics[0].intent in rivals
    assert (decision.cause is Cause.FOLLOW_UP) == goes_on
    if goes_on:
        assert decision.route is Route.GENERATE
        assert decision.intent == continuation.topics[0].intent
        assert decision.alternatives[0].intent == decision.intent


@given(predictions(), states)
def test_without_a_certificate_an_answer_takes_confidence_and_assurance(
    given_prediction: Prediction, state: DialogueState
) -> None:
    for grounds in (NO_GROUNDS, Grounds(Certificate(Promise()))):
        decision = RoutingPolicy().choose(given_prediction, state, grounds)
        enough = given_prediction.confidence >= 0.9 and given_prediction.assurance >= 0.97
        assert (decision.route is Route.INSTANT) == (given_prediction.in_scope and enough)
        assert decision.basis is Basis.UNCERTIFIED
        compared = (decision.assurance, decision.threshold)
        if given_prediction.confidence < 0.9:  # the two that are shown are those that failed
            assert compared == (given_prediction.confidence, 0.9)
        else:
            assert compared == (given_prediction.assurance, 0.97)


def test_who_promises_more_gets_a_stricter_default() -> None:
    def least(max_wrong: float) -> float:
        sure = prediction(("greet", 0.999))
        grounds = Grounds(Certificate(Promise(max_wrong)))
        return RoutingPolicy().choose(sure, DialogueState(), grounds).threshold

    assert least(0.2) < least(0.05) == 0.97 < least(0.01)
    assert round(least(0.01), 4) == 0.9941


def test_what_stands_under_two_intents_is_no_instant_answer_however_well_it_is_known() -> None:
    torn = prediction(("greet", 0.51), ("goodbye", 0.49), assurance=0.99)
    decision = RoutingPolicy().choose(torn, DialogueState())
    assert (decision.route, decision.assurance, decision.threshold) == (Route.CLARIFY, 0.51, 0.9)


def test_a_decision_of_an_older_release_had_a_fixed_threshold() -> None:
    new = RoutingPolicy(instant_threshold=0.7).choose(CLOSE, DialogueState())
    old = {name: one for name, one in new.to_json().items() if name not in ("assurance", "basis")}
    assert Decision.from_json(old) == new


def test_two_close_intents_make_it_ask_back() -> None:
    decision = RoutingPolicy().choose(CLOSE, DialogueState())
    assert (decision.route, decision.cause) == (Route.CLARIFY, Cause.CLOSE_INTENTS)


def test_the_topic_decides_between_close_intents_only_if_it_is_one_of_them() -> None:
    best, second = (one.intent for one in CLOSE.ranking[:2])
    for topic, route in (
        (best, Route.GENERATE),
        (second, Route.GENERATE),
        ("greet", Route.CLARIFY),
    ):
        going_on = Continuation(0.9, (RankedIntent(topic, 0.8),))
        decision = RoutingPolicy().choose(CLOSE, DialogueState(), continuation=going_on)
        assert decision.route is route
        assert (decision.cause is Cause.FOLLOW_UP) == (route is Route.GENERATE)


def test_a_weak_runner_up_is_no_rival() -> None:
    lonely = prediction(("cancel_order", 0.78), ("return_item", 0.05))
    decision = RoutingPolicy().choose(lonely, DialogueState())
    assert (decision.route, decision.cause) == (Route.GENERATE, Cause.UNSURE)


def test_what_the_user_picked_is_answered_at_once() -> None:
    decision = RoutingPolicy().chosen("return_item")
    assert (decision.route, decision.cause) == (Route.INSTANT, Cause.CHOSEN)
    assert decision.intent == "return_item"


@given(decisions)
def test_a_decision_comes_back_from_json_as_it_was(decision: Decision) -> None:
    assert Decision.from_json(json.loads(json.dumps(decision.to_json()))) == decision


@given(states)
def test_a_dialogue_state_comes_back_from_json_as_it_was(state: DialogueState) -> None:
    assert DialogueState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_a_state_of_an_older_release_misses_nothing() -> None:
    assert DialogueState.from_json({}) == DialogueState()


@given(states, names)
def test_an_answer_ends_the_question_and_is_counted(state: DialogueState, intent: str) -> None:
    after = state.after_answer(intent, ())
    assert after.pending == ()
    assert after.said[intent] == state.said.get(intent, 0) + 1
    assert after.variables == state.variables
