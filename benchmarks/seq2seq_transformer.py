"""A small decoder-only transformer that learns from the same tokens as the GRU encoder-decoder."""

import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicCache
from transformers.utils import logging

from generator.seq2seq.search import Array
from generator.seq2seq.tokens import BEGIN, END, PAD, UNSPEAKABLE
from generator.seq2seq.training import Pair, batches, padded

LEARNING_RATE = 2e-3
WARM_UP_SHARE = 0.05
Say = Callable[[str], None]


def build(vocabulary: int, *, longest: int) -> LlamaForCausalLM:
    """About as many weights as the GRU has by default."""
    logging.disable_progress_bar()
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=longest,
        tie_word_embeddings=True,
        bos_token_id=BEGIN,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


def train(
    network: LlamaForCausalLM,
    lesson: Sequence[Pair],
    check: Sequence[Pair],
    *,
    steps: int,
    batch_size: int = 64,
    say: Say,
) -> float:
    """Ends with the weights of the epoch that did best on `check`. Returns the CPU seconds of its
    steps, checks not counted."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=LEARNING_RATE, weight_decay=0.01, fused=True
    )
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            (step + 1) / warm_up
            if step < warm_up
            else 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
        ),
    )
    best, best_loss = network.state_dict(), math.inf
    done = 0
    seconds = 0.0
    while done < steps:
        network.train()
        for batch in batches(lesson, batch_size, random.Random(done)):
            started = time.process_time()
            loss = reply_losses(network, batch).mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done += 1
            seconds += time.process_time() - started
            say(f"transformer: step {done} of {steps}, loss {loss.item():.2f}")
            if done == steps:
                break
        loss_now = mean_loss(network, check)
        if loss_now < best_loss:
            best_loss = loss_now
            best = {name: weight.clone() for name, weight in network.state_dict().items()}
    network.load_state_dict(best)
    network.eval()
    return seconds


def reply_losses(network: LlamaForCausalLM, batch: Sequence[Pair]) -> Tensor:
    """(N,) a loss for each token of the replies."""
    rows = [[*pair.source, BEGIN, *pair.reply] for pair in batch]
    ids = padded(rows)  # what follows a row changes nothing in it: no mask is needed
    places = torch.arange(ids.shape[1] - 1)
    first = torch.tensor([len(pair.source) for pair in batch])[:, None]
    last = torch.tensor(list(map(len, rows)))[:, None] - 1
    at = (places >= first) & (places < last)
    states = network.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    return functional.cross_entropy(network.lm_head(states[at]), ids[:, 1:][at], reduction="none")


@torch.inference_mode()
def mean_loss(network: LlamaForCausalLM, check: Sequence[Pair]) -> float:
    network.eval()
    losses = [
        reply_losses(network, check[start : start + 64]) for start in range(0, len(check), 64)
    ]
    return float(torch.cat(losses).mean())


class TransformerReply:
    """One reply on its way: a `Decoding`, with a cache of keys and values."""

    def __init__(self, network: LlamaForCausalLM, source: Sequence[int]) -> None:
        self._network = network
        self._source = list(source)
        self._cache = DynamicCache(config=network.config)

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], parents: Sequence[int]) -> Array:
        ids = torch.tensor([[one] for one in tokens])
        if self._source:
            ids = torch.tensor([[*self._source, *tokens]])
            self._source = []
        elif list(parents) != [0] or self._cache.batch_size != 1:
            self._cache.reorder_cache(torch.tensor(list(parents)))
        states = self._network.model(
            input_ids=ids, past_key_values=self._cache, use_cache=True
        ).last_hidden_state[:, -1]
        logits = self._network.lm_head(states)
        logits[:, list(UNSPEAKABLE)] = -math.inf
        chances: Array = logits.log_softmax(1).numpy()
        return chances

    @property
    def state_bytes(self) -> int:
        return sum(one.keys.nbytes + one.values.nbytes for one in self._cache.layers)


def load(folder: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(folder).eval()
