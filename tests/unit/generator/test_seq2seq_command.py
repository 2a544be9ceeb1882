"""`python -m generator train`, as somebody runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from generator.interface import ChatMessage
from generator.seq2seq import artifact
from generator.seq2seq.artifact import Seq2Seq
from generator.seq2seq.conversations import Exchange
from generator.seq2seq.evaluation import (
    AttentionPicture,
    bleu_of,
    evaluate,
    picture_attention,
    rouge_l_of,
)
from generator.seq2seq.plots import plots
from generator.seq2seq.training import Epoch

from .plant_talk import ANSWERS, plant_talk


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "generator", "train", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_conversations_become_a_folder_that_answers_and_a_report(tmp_path: Path) -> None:
    file, out = tmp_path / "talk.jsonl", tmp_path / "plants"
    data = plant_talk()
    rows = [
        {"messages": [{"role": one.role, "content": one.text} for one in talk]}
        for talk in (*data.train, *data.test)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    done = run("--conversations", file, "--out", out, "--epochs", 2, "--hidden", 16)
    assert done.returncode == 0, done.stderr
    assert "epoch 2/2" in done.stderr
    assert "perplexity" in done.stdout
    network = artifact.load(out)
    assert list(network.say(network.read([ChatMessage("user", "你好")]), most_tokens=5))
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "network.safetensors",
        "report.html",
        "tokenizer.json",
    ]
    page = (out / "report.html").read_text("utf-8")
    assert len(re.findall(r"<svg role", page)) == 3
    assert any(answer in page for answer in ANSWERS.values())
    assert not re.search(r"https?://(?!www\.w3\.org)", page)
    card = network.card
    assert card["conversations"]["test"] >= 1
    assert {"perplexity", "bleu", "rouge_l", "tokens_per_second"} <= card["evaluation"].keys()
    assert not any(question in (out / "config.json").read_text() for question in ANSWERS)


def test_a_report_of_words_in_any_script_can_be_drawn() -> None:
    words = ["user:", "你好", "🌿", "$x$", "<b>", "\0"]
    weights = np.full((len(words), len(words)), 1 / len(words), np.float32)
    epoch = Epoch(1, 2, 3.0, 2.0, 1.0, 1.0, 0.1)
    drawn = plots([epoch], AttentionPicture(words, words, weights))
    assert drawn.keys() == {"loss", "gradients", "attention"}
    assert "你好" in drawn["attention"]
    assert "&lt;b&gt;" in drawn["attention"]


def test_a_bad_file_ends_with_its_problems_and_makes_nothing(tmp_path: Path) -> None:
    file, out = tmp_path / "talk.jsonl", tmp_path / "out"
    file.write_bytes(b"\x89PNG\0")
    done = run("--conversations", file, tmp_path / "none.jsonl", "--out", out)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"{file}: is no text; unpack or export it as JSON lines",
        f"{tmp_path / 'none.jsonl'}: No such file or directory; check the path",
    ]
    assert not out.exists()


def test_metrics_know_a_perfect_reply_from_a_foreign_one() -> None:
    said = ["a fern is 9 euros today", "yes, by card or in cash"]
    assert bleu_of(said, said)[0] == pytest.approx(100)
    assert rouge_l_of(said, said) == pytest.approx(100)
    assert bleu_of(["xyz", "uvw"], said)[0] < 5
    assert rouge_l_of(["xyz", "uvw"], said) == 0
    assert "version" in bleu_of(said, said)[1]


def test_an_evaluation_and_a_picture_of_what_was_learned(learned: tuple[Seq2Seq, float]) -> None:
    network, loss = learned
    asked = [
        Exchange((ChatMessage("user", question),), answer) for question, answer in ANSWERS.items()
    ]
    found = evaluate(network, asked, perplexity=float(np.exp(loss)), most_replies=5)
    assert (found.exchanges, found.replies) == (len(asked), 5)
    assert found.bleu > 90
    assert found.rouge_l > 90
    assert found.tokens_per_second > 0
    assert found.state_bytes < found.weight_bytes
    assert all(sample.reply == sample.expected for sample in found.samples)
    picture = picture_attention(network, asked)
    assert picture.weights.shape == (len(picture.reply), len(picture.source))
    np.testing.assert_allclose(picture.weights.sum(axis=1), 1, atol=1e-5)
    assert picture.source[0] == "user:"
    assert picture.reply[-1] == "■"
