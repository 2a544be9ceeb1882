"""How good the replies are to conversations that were not trained on. Imports no torch."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from generator.seq2seq.artifact import BEAM_WIDTH, Seq2Seq
from generator.seq2seq.conversations import Exchange
from generator.seq2seq.engine import Array, Reply
from generator.seq2seq.tokens import BEGIN, END, words

MOST_REPLIES = 500
SAMPLES = 20
LONGEST_PICTURE_WORDS = 28
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Sample:
    context: list[tuple[str, str]]
    expected: str
    reply: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`bleu` and `rouge_l` from 0 to 100. `exchanges` counts what the perplexity is of, `replies`
    what was said for the others; `tokens_per_second` is of CPU time, reading included."""

    exchanges: int
    perplexity: float
    replies: int
    bleu: float
    bleu_signature: str
    rouge_l: float
    tokens_per_second: float
    weight_bytes: int
    state_bytes: int
    """Of one reply on its way, the largest met."""
    beam_width: int
    samples: list[Sample]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class AttentionPicture:
    source: list[str]
    reply: list[str]
    weights: Array  # (words of the reply, words of the source), rows sum to 1


def evaluate(
    network: Seq2Seq,
    test: Sequence[Exchange],
    *,
    perplexity: float,
    most_replies: int = MOST_REPLIES,
    beam_width: int = BEAM_WIDTH,
    seed: int = 0,
    on_progress: OnProgress = lambda done, of: None,
) -> Evaluation:
    """Says a reply to at most so many of the exchanges, drawn with `seed`."""
    chosen = list(test)
    random.Random(seed).shuffle(chosen)
    chosen = chosen[:most_replies]
    said: list[str] = []
    count = state_bytes = 0
    seconds = 0.0
    for exchange in chosen:
        started = time.process_time()
        reply = network.read(exchange.context)
        ids = list(network.say(reply, most_tokens=10**6, beam_width=beam_width))
        seconds += time.process_time() - started
        count += len(ids) + 1  # the end is said, too
        state_bytes = max(state_bytes, reply.state_bytes)
        said.append(network.tokens.decode(ids).strip())
        on_progress(len(said), len(chosen))
    expected = [exchange.reply for exchange in chosen]
    bleu, signature = bleu_of(said, expected)
    return Evaluation(
        exchanges=len(test),
        perplexity=perplexity,
        replies=len(said),
        bleu=bleu,
        bleu_signature=signature,
        rouge_l=rouge_l_of(said, expected),
        tokens_per_second=count / seconds if seconds else 0.0,
        weight_bytes=network.engine.weight_bytes,
        state_bytes=state_bytes,
        beam_width=beam_width,
        samples=[
            Sample([(one.role, one.text) for one in exchange.context[-3:]], exchange.reply, text)
            for exchange, text in zip(chosen[:SAMPLES], said, strict=False)
        ],
    )


def bleu_of(said: Sequence[str], expected: Sequence[str]) -> tuple[float, str]:
    """Of the corpus (Papineni et al. 2002), and the signature that makes it comparable."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU()
    score = metric.corpus_score(list(said), [list(expected)]).score
    return float(score), str(metric.get_signature())


def rouge_l_of(said: Sequence[str], expected: Sequence[str]) -> float:
    """The mean F1 of the longest common subsequences of words (Lin 2004)."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    scores: list[float] = [
        scorer.score(wanted, text)["rougeL"].fmeasure
        for text, wanted in zip(said, expected, strict=True)
    ]
    return 100 * sum(scores) / max(1, len(scores))


def picture_attention(network: Seq2Seq, test: Sequence[Exchange]) -> AttentionPicture:
    """What the network looks at while it says the reply of the first exchange that is neither too
    long to be drawn nor next to nothing; else of the first one."""
    for exchange in test:
        picture = _picture(network, exchange)
        longest = max(len(picture.source), len(picture.reply))
        if len(picture.reply) >= 4 and longest <= LONGEST_PICTURE_WORDS:
            return picture
    return _picture(network, test[0])


def _picture(network: Seq2Seq, exchange: Exchange) -> AttentionPicture:
    shape, tokens = network.engine.shape, network.tokens
    source = tokens.context(exchange.context, most=shape.source_tokens)
    ids = [*network.say(network.engine.read(source), most_tokens=shape.reply_tokens), END]
    again = network.engine.read(source)
    weights = np.concatenate([_attended(again, one) for one in [BEGIN, *ids[:-1]]])  # (T, S)
    read, said = words(tokens, source), words(tokens, ids)
    by_source = np.stack([weights[:, places].sum(axis=1) for _, places in read], axis=1)
    by_both = np.stack([by_source[places].mean(axis=0) for _, places in said])
    most = LONGEST_PICTURE_WORDS
    return AttentionPicture(
        [word for word, _ in read][-most:],
        [word for word, _ in said][:most],
        by_both[:most, -most:],
    )


def _attended(reply: Reply, token: int) -> Array:
    reply.step([token], [0])
    return reply.attention
