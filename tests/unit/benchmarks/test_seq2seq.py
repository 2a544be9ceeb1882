"""The transformer that the GRU is measured against is computed rightly."""

import numpy as np
import pytest
import torch

from benchmarks import seq2seq
from benchmarks.seq2seq_transformer import TransformerReply, build, mean_loss
from generator.seq2seq.tokens import BEGIN, END, USER
from generator.seq2seq.training import Pair

SOURCE = [USER, 9, 8, 7]


def test_its_cache_gives_each_hypothesis_what_a_whole_reading_would() -> None:
    network = build(30, longest=40).eval()

    def alone(*said: int) -> np.ndarray:
        with torch.inference_mode():
            logits = network(input_ids=torch.tensor([[*SOURCE, BEGIN, *said]])).logits[0, -1]
            logits[[0, 1, 3, 4]] = float("-inf")
            return logits.log_softmax(0).numpy()

    reply = TransformerReply(network, SOURCE)
    np.testing.assert_allclose(reply.step([BEGIN], [0]), [alone()], atol=1e-5)
    reply.step([9, 10, 11], [0, 0, 0])
    together = reply.step([12, 13], [2, 0])
    np.testing.assert_allclose(together, [alone(11, 12), alone(9, 13)], atol=1e-5)


def test_its_loss_is_of_the_reply_alone_whatever_stands_beside_it() -> None:
    network = build(30, longest=40).eval()
    pairs = [Pair(SOURCE, [10, 11, END]), Pair([USER, 9, 9, 9, 9, 9], [12, END])]
    with torch.inference_mode():
        expected = []
        for pair in pairs:
            ids = torch.tensor([[*pair.source, BEGIN, *pair.reply]])
            chances = network(input_ids=ids).logits[0].log_softmax(1)
            places = range(len(pair.source), ids.shape[1] - 1)
            expected += [-chances[place, ids[0, place + 1]].item() for place in places]
    assert mean_loss(network, pairs) == pytest.approx(np.mean(expected), abs=1e-5)


def test_without_data_it_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    monkeypatch.delenv("TWOFOLD_DATA", raising=False)
    assert seq2seq.main([]) == 0
    monkeypatch.setenv("TWOFOLD_DATA", str(tmp_path))
    assert seq2seq.main([]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("skipped: set TWOFOLD_DATA")
    assert "has no dialogues/sgd_train.jsonl.gz" in said[1]
