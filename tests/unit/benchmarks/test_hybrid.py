"""The benchmark of the hybrid: its arithmetic, its gate, what it replays and draws."""

import io
import random
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from benchmarks import follow_ups
from benchmarks.hybrid.__main__ import main
from benchmarks.hybrid.bench import without_a_router
from benchmarks.hybrid.data import Data
from benchmarks.hybrid.figures import (
    OURS,
    Arm,
    Choice,
    Cost,
    Gate,
    Generation,
    Message,
    Mix,
    Recording,
    augrc,
    interval_of_ratio,
    objections,
    outcome,
    upper_bound,
    void,
)
from benchmarks.hybrid.measuring import Live, Measured, UnderLoad
from benchmarks.hybrid.report import Results, picture, show
from intent.data import TrainingSet

INSIDE = [Message(f"known {number}", "pay") for number in range(60)]
OUTSIDE = [Message(f"strange {number}", None) for number in range(40)]
STREAM = INSIDE + OUTSIDE
FOLLOWED = [
    follow_ups.Row(
        what=what,
        dialogues=10,
        turns=80,
        right=right,
        interval=(right - 0.01, right + 0.01),
        turning_away=0.8,
        going_on=0.9,
        unseen_services=0.9,
        instant=0.3,
        instant_wrong=0.1,
    )
    for what, right in (("the router", 0.885), ("the classifier alone", 0.464))
]


def generated(message: Message, seconds: float = 10.0, *, is_whole: bool = True) -> Generation:
    return Generation(message, Cost(seconds, seconds / 2), 1.0, 20, is_whole)


RECORDING = Recording([generated(INSIDE[0], 10.0), generated(OUTSIDE[0], 20.0)])


def answering(inside: int, outside: int, *, wrong: int = 0) -> Arm:
    """The first so many messages of each kind; of those in scope, the first `wrong` wrongly."""
    choices = [
        Choice(number < inside, "refund" if number < wrong else "pay", 0.5)
        for number in range(len(INSIDE))
    ]
    choices += [Choice(number < outside, "pay", 0.5) for number in range(len(OUTSIDE))]
    return Arm(OURS, choices, instant=Cost(0.1, 0.01), routing=Cost(0.05, 0.005), ranks=True)


ALONE = outcome(Arm("generator only", [Choice(False)] * 100), 0.6, STREAM, RECORDING)


def test_the_oracle_saves_what_is_in_scope_and_ours_is_measured_by_it() -> None:
    ours = answering(48, 2, wrong=1)
    _, always, _, oracle = (
        outcome(arm, 0.6, STREAM, RECORDING) for arm in without_a_router(STREAM, ours, seed=0)
    )
    assert (oracle.saving, oracle.kept, oracle.wrong) == (2.5, 1.0, 0)
    assert always.saving == float("inf")
    assert always.wrong == 41
    found = outcome(ours, 0.6, STREAM, RECORDING)
    assert found.saving == 2.0
    assert found.kept == pytest.approx(50 / 60)
    assert found.kept_rightly == pytest.approx(47 / 60)
    assert (found.wrong, found.wrong_share) == (3, 0.06)
    assert found.well == 0.97
    assert found.interval[0] < found.kept < found.interval[1]


def test_what_is_not_answered_instantly_costs_the_routing_and_its_generation() -> None:
    found = outcome(answering(60, 0), 0.6, STREAM, RECORDING)
    assert found.cost.seconds == pytest.approx((60 * 0.1 + 40 * (0.05 + 20.0)) / 100)
    assert found.cost.cpu_seconds == pytest.approx((60 * 0.01 + 40 * (0.005 + 10.0)) / 100)
    assert ALONE.cost.seconds == pytest.approx((60 * 10.0 + 40 * 20.0) / 100)


def test_asking_back_saves_nothing() -> None:
    arm = answering(60, 0)
    asking = replace(arm, choices=[Choice(False, "pay", asks_back=True), *arm.choices[1:]])
    found = outcome(asking, 0.6, STREAM, RECORDING)
    assert (found.instant, found.asked_back) == (59, 1)
    assert found.cost.seconds > outcome(arm, 0.6, STREAM, RECORDING).cost.seconds


def test_a_message_is_replayed_with_its_own_generation_else_with_one_of_its_scope() -> None:
    recording = Recording(
        [generated(INSIDE[0], 1.0), generated(INSIDE[1], 2.0), generated(OUTSIDE[0], 3.0)]
    )
    assert recording.replay(INSIDE[1], 0).cost.seconds == 2.0
    assert [recording.replay(INSIDE[9], n).cost.seconds for n in range(3)] == [1.0, 2.0, 1.0]
    assert recording.replay(OUTSIDE[9], 1).cost.seconds == 3.0


def test_generations_that_were_cut_off_do_not_end_well() -> None:
    recording = Recording([generated(INSIDE[0]), generated(OUTSIDE[0], is_whole=False)])
    found = outcome(Arm("generator only", [Choice(False)] * 100), 0.6, STREAM, recording)
    assert found.well == 0.6


def test_the_bound_of_clopper_and_pearson() -> None:
    assert upper_bound(0, 100, error=0.05) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert upper_bound(99, 100, error=0.05) == pytest.approx(0.95 ** (1 / 100))
    assert upper_bound(100, 100, error=0.05) == pytest.approx(1)
    assert upper_bound(0, 0, error=0.05) == 0
    assert upper_bound(20, 80, error=0.05) == pytest.approx(0.342, abs=0.0005)  # SciPy


def test_augrc_is_the_chance_to_fail_before_another_message_is_answered() -> None:
    drawn = random.Random(3)
    for _ in range(50):
        size = drawn.randint(1, 12)
        sure = [drawn.choice((0.1, 0.5, 0.5, 0.9)) for _ in range(size)]
        failed = [drawn.random() < 0.4 for _ in range(size)]
        pairs = [
            fails * (1.0 if mine > other else 0.5 if mine == other else 0.0)
            for mine, fails in zip(sure, failed, strict=True)
            for other in sure
        ]
        assert augrc(sure, failed) == pytest.approx(sum(pairs) / size**2)


def test_the_interval_of_a_ratio_holds_the_ratio() -> None:
    low, high = interval_of_ratio([2.0, 2.1, 2.2, 1.9], [1.0, 1.1, 0.9, 1.0])
    assert 1.6 < low <= 2.05 <= high < 2.5


def test_the_gate_asks_that_few_wrong_answers_are_shown_and_few_messages_lost() -> None:
    loose = Gate(most_wrong=0.2, most_lost=0.1)
    good = outcome(answering(50, 0), 0.6, STREAM, RECORDING)
    assert objections(good, ALONE, loose) == []
    # None of fifty was wrong, and yet one in twenty may be.
    (too_few,) = objections(good, ALONE, Gate(most_wrong=0.05))
    assert "up to 5.8%" in too_few
    wrong, lost = objections(outcome(answering(60, 20), 0.6, STREAM, RECORDING), ALONE, loose)
    assert "34.2%" in wrong
    assert "20.0% fewer" in lost


def test_a_result_is_void_with_one_broken_mix_or_nothing_certified() -> None:
    gate = Gate(most_wrong=0.2, most_lost=0.1)
    good, bad = (
        Mix(0.6, (ALONE, outcome(arm, 0.6, STREAM, RECORDING)), frozenset(), changed=0)
        for arm in (answering(50, 0), answering(60, 20))
    )
    uncertified = replace(bad, uncertified=frozenset({OURS}))
    assert void([good, uncertified], gate) == []
    assert len(void([good, bad], gate)) == 2
    assert void([uncertified], gate) == ["nothing could be certified at any mix"]


def test_a_stream_is_mixed_as_asked_and_repeats_nothing() -> None:
    nothing = TrainingSet(())
    data = Data(nothing, nothing, nothing, tuple(INSIDE), tuple(OUTSIDE))
    stream = data.stream(0.75, most=50, seed=1)
    assert len(set(stream)) == 50
    assert sum(message.intent is not None for message in stream) == 38
    assert len(data.stream(0.3, most=1_000, seed=1)) == 57
    assert len(data.stream(1.0, most=1_000, seed=1)) == 60


def test_the_tables_say_void_and_the_picture_is_one() -> None:
    ours = answering(60, 20)
    arms = [*without_a_router(STREAM, ours, seed=0), ours]
    outcomes = tuple(outcome(arm, 0.6, STREAM, RECORDING) for arm in arms)
    results = Results(
        mixes=(Mix(0.6, outcomes, frozenset(), changed=0),),
        generations=RECORDING.generations,
        routes={"instant turn": Measured((0.1, 0.2), 0.05)},
        live=Live(10, {"instant": 10}, Cost(1, 1), Cost(1, 1)),
        load=UnderLoad((0.1, 0.1), (0.2, 0.2), 8),
        follow_ups=FOLLOWED,
        spent={"training": 61.0, "generating": 204.0},
        price=0.04,
    )
    console = Console(file=io.StringIO(), width=200, record=True)
    show(results, Gate(), console)
    said = console.export_text()
    assert "saving 5.00× (oracle 2.50×, 1.33 of its saving kept); gate: void" in said
    assert "VOID: 60% in scope" in said
    assert "2.00 times" in said
    assert "265 s: training 61, generating 204;" in said
    assert "follow-ups: 88.5% get the right intent (87.5% to 89.5%), by the message alone" in said
    assert "80 turns after the first of 10 held-out dialogues" in said
    assert not any("follow" in line for line in shown_without_dialogues(results))
    root = ElementTree.fromstring(picture(results, Gate()))
    assert "60%: 1.33, 25.0% wrong" in "".join(root.itertext())
    assert results.to_json(Gate())["void"]


def shown_without_dialogues(results: Results) -> list[str]:
    console = Console(file=io.StringIO(), width=200, record=True)
    show(replace(results, follow_ups=()), Gate(), console)
    return console.export_text().splitlines()


def test_without_data_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TWOFOLD_DATA", raising=False)
    assert main([]) == 0
    assert "skipped: set TWOFOLD_DATA" in capsys.readouterr().out
    monkeypatch.setenv("TWOFOLD_DATA", str(tmp_path))
    assert main([]) == 0
    assert "does not exist" in capsys.readouterr().out
