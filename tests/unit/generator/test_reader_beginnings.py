"""A reader begins where earlier trainings ended."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from generator.teaching.export import export_reader
from generator.teaching.lesson import (
    Field,
    TeachingError,
)
from generator.teaching.reader_base import base_network
from generator.teaching.reader_training import (
    begin_at,
)
from generator.teaching.training import teach

from .small_reader import READER, reader_pupil


def test_a_training_begins_at_the_weights_of_an_earlier_one(
    base: Path, fields: list[Field], tmp_path: Path
) -> None:
    earlier = reader_pupil(base, fields[2:], config=replace(READER, epochs=1))
    list(teach(earlier, tmp_path / "earlier.pt"))
    shape = earlier.network.shape
    export_reader(earlier.weights, shape, base=base, folder=tmp_path / "exported")
    network = base_network(base)
    begin_at(network, {tmp_path / "earlier.pt": 1})
    for name, weight in network.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(weight, earlier.weights[name], atol=1e-6, rtol=0)
    mixed, untaught = base_network(base), dict(base_network(base).named_parameters())
    begin_at(mixed, {tmp_path / "earlier.pt": 1}, share_of_base=0.25)
    of_layer, of_head = "layers.0.up.weight", "score.0.weight"
    parts = dict(mixed.named_parameters())
    expected = 0.75 * earlier.weights[of_layer] + 0.25 * untaught[of_layer]
    torch.testing.assert_close(parts[of_layer], expected)
    torch.testing.assert_close(parts[of_head], earlier.weights[of_head])
    rounded = base_network(base)
    begin_at(rounded, {tmp_path / "exported": 2})
    for name, weight in rounded.named_parameters():
        if weight.requires_grad and name != "kinds.weight":
            least = earlier.weights[name].abs().amax() / 127
            torch.testing.assert_close(weight, earlier.weights[name], atol=least.item(), rtol=0)


def test_several_trainings_are_averaged_each_as_often_as_is_said(
    base: Path, tmp_path: Path
) -> None:
    name, shape = "score.2.bias", base_network(base).score[2].bias.shape
    for file, value in (("one.pt", 1.0), ("two.pt", 5.0)):
        means = {name: torch.full(shape, value)}
        torch.save({"pupil": {"optimizer": {"means": means}}}, tmp_path / file)
    network, untaught = base_network(base), base_network(base).state_dict()
    begin_at(network, {tmp_path / "one.pt": 3, tmp_path / "two.pt": 1})
    for other, weight in network.state_dict().items():
        expected = torch.full(shape, 2.0) if other == name else untaught[other]
        torch.testing.assert_close(weight, expected, msg=other)


def test_weights_of_something_else_are_refused(base: Path, tmp_path: Path) -> None:
    network = base_network(base)
    with pytest.raises(TeachingError, match="does not exist"):
        begin_at(network, {tmp_path / "nothing.pt": 1})
    with pytest.raises(TeachingError, match=r"name a folder with reader\.safetensors"):
        begin_at(network, {base: 1})
    for means in ({"score.0.bias": torch.zeros(3)}, {"decoder": torch.zeros(3)}):
        torch.save({"pupil": {"optimizer": {"means": means}}}, tmp_path / "x")
        with pytest.raises(TeachingError, match="another network"):
            begin_at(network, {tmp_path / "x": 1})
