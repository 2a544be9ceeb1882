"""The laboratory asks what it says it asks, and its reports say what the runs say."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.laboratory.figures import draw_figures
from benchmarks.laboratory.fitting import QUICK, Setup
from benchmarks.laboratory.memory import (
    NOISE_WORDS,
    SYMBOLS,
    Probe,
    better_start,
    gradient_by_distance,
    memory,
    probe_batch,
    remember,
)
from benchmarks.laboratory.report import Run, tables
from benchmarks.laboratory.utterances import OBJECTS, VERBS, spoken_batch
from intent.network import BatchBuilder, IntentNetwork
from intent.shape import CELLS, Cell, NetworkShape
from intent.text import Vocabulary

TINY = replace(QUICK, distances=(20, 25, 30), probe_steps=1)


@pytest.mark.parametrize(("directions", "before"), [(1, 0), (2, 7)])
def test_the_symbol_lies_k_words_from_the_end_of_every_reader(directions: int, before: int) -> None:
    utterances, labels = probe_batch(random.Random(0), 7, directions, 20)
    for utterance, label in zip(utterances, labels.tolist(), strict=True):
        assert len(utterance) == before + 1 + 7
        assert utterance[before] == SYMBOLS[label]
        assert set(utterance[:before] + utterance[before + 1 :]) <= set(NOISE_WORDS)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("directions", [1, 2])
def test_the_head_of_the_probe_sees_the_last_state_of_each_reader_alone(
    cell: Cell, directions: int
) -> None:
    probe = Probe(Setup(cell=cell, directions=directions), seed=0)
    hook = probe.encoder.recurrent.register_forward_hook(only_ends)
    build = BatchBuilder(Vocabulary(SYMBOLS + NOISE_WORDS))
    utterances, _ = probe_batch(random.Random(0), 3, directions, 5)
    with torch.no_grad():
        from_the_ends = probe(build(utterances))
        hook.remove()
        torch.testing.assert_close(from_the_ends, probe(build(utterances)))


def only_ends(
    layer: torch.nn.RNNBase, _: object, output: tuple[torch.Tensor, object]
) -> tuple[torch.Tensor, object]:
    states = torch.full_like(output[0], float("nan"))
    width = layer.hidden_size
    states[:, -1, :width] = output[0][:, -1, :width]
    states[:, 0, width:] = output[0][:, 0, width:]
    return states, output[1]


@pytest.mark.parametrize("place", ["early", "apart", "late", "anywhere"])
def test_the_later_of_two_requests_is_the_intent(place: str) -> None:
    utterances, labels = spoken_batch(random.Random(1), 12, place, 30)
    for utterance, label in zip(utterances, labels.tolist(), strict=True):
        assert len(utterance) == 12
        said = [word for word in utterance if word in VERBS + OBJECTS]
        assert len(said) == 4
        assert said[2:] == [VERBS[label // len(OBJECTS)], OBJECTS[label % len(OBJECTS)]]


def test_the_same_seed_gives_the_same_run() -> None:
    setup = Setup(cell="gru", directions=2, layer_norm=True)
    one, other = (remember(setup, 3, 5, seed=4) for _ in range(2))
    assert replace(one, seconds=0) == replace(other, seconds=0)
    assert remember(setup, 3, 5, seed=5).losses != one.losses


def test_a_symbol_two_words_back_is_learned() -> None:
    run = remember(Setup(cell="gru"), 2, 150, seed=0)
    assert run.accuracy == 1
    assert len(run.losses) < 150  # it stops when it has learned


def test_norms_are_those_before_clipping() -> None:
    tight = remember(Setup(cell="rnn", clip_norm=1e-6, optimizer="sgd"), 3, 5, seed=0)
    loose = remember(Setup(cell="rnn", clip_norm=math.inf, optimizer="sgd"), 3, 5, seed=0)
    assert tight.norms[0] == loose.norms[0] > 1e-3
    assert tight.losses[0] == loose.losses[0]
    assert tight.losses[1:] != loose.losses[1:]


@pytest.mark.parametrize("cell", CELLS)
def test_a_better_start_lets_more_of_the_gradient_back(cell: Cell) -> None:
    plain, better = (
        gradient_by_distance(setup, 30, seed=0)
        for setup in (Setup(cell=cell), better_start(Setup(cell=cell)))
    )
    assert plain[0] == better[0] == 1
    assert plain[30] < 1e-3 < better[30]


def test_longer_distances_are_left_out_once_nothing_is_remembered() -> None:
    distances = {run.at for run in memory(TINY)}  # one step teaches nothing
    assert distances == {20}


def test_layer_norm_adds_two_weights_and_padding_stays_without_effect() -> None:
    shape = NetworkShape(vocabulary=2, intents=3, embedding=8, hidden=4, features=5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain, normed = IntentNetwork(shape), IntentNetwork(replace(shape, layer_norm=True))
        torch.nn.init.normal_(normed.get_parameter("encoder.norm.bias"))
    assert normed.state_dict().keys() - plain.state_dict().keys() == {
        "encoder.norm.weight",
        "encoder.norm.bias",
    }
    build = BatchBuilder(Vocabulary(("one", "two")))
    with torch.no_grad():
        together, _ = normed(build([["one"], ["two", "one", "two"]]))
        alone, _ = normed(build([["one"]]))
    torch.testing.assert_close(together[:1], alone)


def some_runs() -> list[Run]:
    curve = [1.0, 0.5, 0.25]
    by_length = {f"{place} {n}": 0.5 for place in ("early", "apart", "late") for n in (8, 16)}
    return [
        Run(experiment, cell, variant, 6, seed, accuracy, curve, [1.0] * 8, 0.3, by_length)
        for experiment, variants in {
            "reach": ("default",),
            "memory": ("last state", "no clipping", "a", "b", "c", "d"),
            "clipping": ("sgd, clipped", "sgd, not clipped", "adamw, clipped"),
            "length": ("two directions", "layer norm"),
            "intents": ("two directions", "layer norm"),
        }.items()
        for variant in variants
        for cell in CELLS
        for seed, accuracy in enumerate((0.8, 1.0))
    ]


def test_the_tables_give_mean_and_spread_over_seeds() -> None:
    report = {table.title: table.markdown() for table in tables(some_runs(), data_name="a set")}
    (intents,) = (text for title, text in report.items() if "a set" in title)
    assert "| two directions | GRU | 90 ± 14 | 0.58 | 1.00 | 1.0 | 100 |" in intents
    (clipped,) = (text for title, text in report.items() if "stretches" in title)
    assert "| plain RNN | sgd | clipped | 1 of 2 | 90 ± 14 | 1 | 1 |" in clipped


def test_every_experiment_gets_its_picture(tmp_path: Path) -> None:
    paths = draw_figures(some_runs(), tmp_path)
    assert [path.name for path in paths] == [
        "reach.png",
        "memory.png",
        "clipping.png",
        "length.png",
        "intents.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
