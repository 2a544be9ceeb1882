"""The reader with torch, as it learns; `generator.reader` serves it.

The layers are those of MiniLM (Wang et al. 2020), begun at sentence-transformers'
all-MiniLM-L6-v2. A page is encoded by itself; a question's upper layers look at the page's keys
and values beside their own (as in DeFormer, Cao et al. 2020, where they do so both ways). The
heads that score sentences are new.

Shapes: P pages, S sentences of the largest, L tokens of the longest; Q questions, T tokens of
the longest; N pairs of the two; D width, H heads, d = D / H; W the narrow width of single words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from generator.judging import LEAST_SUM, MOST_POINTED, POINTER_SCALE
from generator.reader_graph import ABSENT, ReaderShape
from generator.teaching.packing import Packing, in_rows
from generator.teaching.tokens import PageBatch

EPSILON = 1e-12
LENGTHS = 3
"""Pairs are read in so many parts, the shortest questions first, so that little is padding."""


class States(NamedTuple):
    """Of texts, each encoded by itself."""

    last: Tensor  # (B, T, D)
    low: Tensor  # (B, T, D), into the first layer that reads together
    keys: list[Tensor]  # (B, H, T, d) for each layer that reads together
    values: list[Tensor]


@dataclass(frozen=True, slots=True)
class Told:
    """Pages, encoded."""

    batch: PageBatch
    states: States
    vectors: Tensor  # (P, S, D)
    words: Tensor  # (P, L, W), of length one
    spots: Tensor  # (P, L, W), what a pointer is compared with


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions, encoded by themselves."""

    present: Tensor  # (Q, T) bool
    low: Tensor  # (Q, T, D)
    vectors: Tensor  # (Q, D)
    words: Tensor  # (Q, T, W), of length one
    weights: Tensor  # (Q, T), how much each counts; 0 where there is none

    def cut(self, longest: int) -> "Asked":
        """For questions that are no longer than that."""
        return Asked(
            self.present[:, :longest],
            self.low[:, :longest],
            self.vectors,
            self.words[:, :longest],
            self.weights[:, :longest],
        )


class Matched(NamedTuple):
    """How much of each question stands where: the mean cosine of its words to the closest one
    there."""

    pages: Tensor  # (Q, P)
    least: Tensor  # (Q, P), of the two words that are matched least
    sentences: Tensor  # (Q, P, S)


class Scores(NamedTuple):
    """Of pairs of a question and a page. A score of 0 is as well as none; `ABSENT` stands where
    there is nothing to score."""

    sentences: Tensor  # (N, S): how well each answers
    tokens: Tensor  # (N, L): how well each of the words of the sentences does


class ReaderLayer(nn.Module):
    def __init__(self, shape: ReaderShape, dropout: float) -> None:
        super().__init__()
        self._heads, self._dropout = shape.heads, dropout
        self.query = nn.Linear(shape.width, shape.width)
        self.key = nn.Linear(shape.width, shape.width)
        self.value = nn.Linear(shape.width, shape.width)
        self.output = nn.Linear(shape.width, shape.width)
        self.attention_norm = nn.LayerNorm(shape.width, EPSILON)
        self.up = nn.Linear(shape.width, shape.inner)
        self.down = nn.Linear(shape.inner, shape.width)
        self.inner_norm = nn.LayerNorm(shape.width, EPSILON)

    def projected(self, states: Tensor, packing: Packing) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, (B, H, T, d), of states (M, D); the query is scaled."""
        size = states.shape[1] // self._heads
        query, key, value = (
            spread.view(*spread.shape[:2], self._heads, size).transpose(1, 2)
            for spread in (
                packing.spread(projection(states))
                for projection in (self.query, self.key, self.value)
            )
        )
        return query * size**-0.5, key, value

    def rest(self, states: Tensor, attended: Tensor, packing: Packing) -> Tensor:
        """(M, D): what follows attention (B, H, T, d)."""
        joined = packing.pack(attended.transpose(1, 2).flatten(2))
        states = self.attention_norm(states + self._drop(self.output(joined)))
        inner = functional.gelu(self.up(states))
        result: Tensor = self.inner_norm(states + self._drop(self.down(inner)))
        return result

    def _drop(self, states: Tensor) -> Tensor:
        return functional.dropout(states, self._dropout, self.training)


class ReaderNetwork(nn.Module):
    def __init__(self, shape: ReaderShape, dropout: float = 0.1) -> None:
        super().__init__()
        self.shape, self._dropout = shape, dropout
        width = shape.width
        self.words = nn.Embedding(shape.vocabulary, width)
        self.positions = nn.Embedding(shape.positions, width)
        self.kinds = nn.Embedding(2, width)
        self.embedding_norm = nn.LayerNorm(width, EPSILON)
        self.layers = nn.ModuleList(ReaderLayer(shape, dropout) for _ in range(shape.layers))
        self.of_passage = nn.Parameter(torch.zeros(shape.layers, width))
        self.score = _head(4 * width + 4, width)
        self.nothing = _head(2 * width + 1, width // 2)
        self.point = nn.Linear(2 * width, shape.narrow + 1)
        self.spot = nn.Linear(width, shape.narrow, bias=False)
        self.closeness = nn.Parameter(torch.tensor(3.0))
        self.looked = nn.Parameter(torch.zeros(2 * shape.heads))
        self.narrow = nn.Linear(width, shape.narrow, bias=False)
        self.weigh = nn.Linear(width, 1)
        nn.init.zeros_(self.weigh.weight)
        self.rarity = nn.Parameter(torch.ones(shape.vocabulary), requires_grad=False)
        # Words that no question holds stay comparable with those that are taught.
        self.words.weight.requires_grad = False
        self.positions.weight.requires_grad = False

    def new_parameters(self) -> list[nn.Parameter]:
        """Those that the base does not have."""
        parameters = [one for module in self._added() for one in module.parameters()]
        return [*parameters, self.of_passage, self.closeness, self.looked]

    def halve(self) -> None:
        """To bfloat16 where the processor multiplies it faster than float32; but for what scores:
        that is small, and its sums are not."""
        if not torch.cpu.get_capabilities().get("amx_bf16", False):
            return
        self.bfloat16()
        for module in self._added():
            module.float()
        for parameter in (self.closeness, self.looked, self.rarity):
            parameter.data = parameter.data.float()

    def encode(self, ids: Tensor, present: Tensor) -> States:
        """Each text (B, T) by itself."""
        packing = Packing(present)
        states = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.kinds.weight[0]
        states = self.embedding_norm(packing.pack(states))
        states = functional.dropout(states, self._dropout, self.training)
        padding = _padding(present, states.dtype)
        low, keys, values = packing.spread(states), [], []
        for number, layer in enumerate(self._layers()):
            if number == self.shape.alone:
                low = packing.spread(states)
            query, key, value = layer.projected(states, packing)
            if number in self.shape.together:
                keys.append(key)
                values.append(value)
            paid = (query @ key.transpose(-1, -2) + padding).softmax(-1)
            states = layer.rest(states, paid @ value, packing)
        return States(packing.spread(states), low, keys, values)

    def tell(self, batch: PageBatch) -> Told:
        states = self.encode(batch.ids, batch.present)
        vectors = torch.bmm(batch.pooling.to(states.last.dtype), states.last)
        spots: Tensor = self.spot(states.last.float())
        return Told(batch, states, vectors, self._words(states.last), spots)

    def ask(self, ids: Tensor, present: Tensor) -> Asked:
        states = self.encode(ids, present)
        weights = functional.softplus(self.weigh(states.last.float())).squeeze(-1)
        weights = weights * self.rarity[ids] * present
        words = self._words(states.last)
        return Asked(present, states.low, _mean(states.last, present), words, weights)

    def closenesses(self, asked: Asked, told: Told) -> Tensor:
        """(Q, P, S): the cosine of each question to each sentence; -1 to one that is not there."""
        questions = functional.normalize(asked.vectors.float(), dim=-1)
        sentences = functional.normalize(told.vectors.float(), dim=-1)
        cosines = torch.einsum("qd,psd->qps", questions, sentences)
        return cosines.masked_fill(~told.batch.has[None], -1)

    def matched(self, asked: Asked, told: Told) -> Matched:
        cosines = torch.einsum("qtw,plw->qptl", asked.words, told.words)
        cosines = cosines.masked_fill(~told.batch.present[None, :, None], -1)
        closest = cosines.amax(-1)  # (Q, P, T)
        # The same in each sentence, and in what is in none: (Q, P, T, S + 1)
        owner = told.batch.owner[None, :, None].expand_as(cosines)
        size = (*closest.shape, told.batch.has.shape[1] + 1)
        nearest = torch.full(size, -1.0).scatter_reduce(-1, owner, cosines, "amax")[..., :-1]
        shares = asked.weights / asked.weights.sum(1, keepdim=True)  # (Q, T)
        others = closest.masked_fill(~asked.present[:, None], 1)
        return Matched(
            pages=(closest * shares[:, None]).sum(-1),
            least=others.topk(2, largest=False).values.mean(-1),
            sentences=(nearest * shares[:, None, :, None]).sum(2),
        )

    def scores(self, asked: Asked, told: Told, pairs: Sequence[tuple[int, int]]) -> Scores:
        """How well the sentences of the second, a page, answer the first, a question."""
        lengths = asked.present.sum(1).tolist()
        by_length = sorted(range(len(pairs)), key=lambda number: lengths[pairs[number][0]])
        size = -(-len(pairs) // LENGTHS)
        scored: list[Scores] = []
        for start in range(0, len(pairs), size):
            part = [pairs[number] for number in by_length[start : start + size]]
            longest = lengths[part[-1][0]]
            scored.append(self._scores(asked.cut(longest), told, part))
        order = torch.tensor(by_length).argsort()
        return Scores(*(torch.cat(parts)[order] for parts in zip(*scored, strict=True)))

    def _scores(self, asked: Asked, told: Told, pairs: Sequence[tuple[int, int]]) -> Scores:
        rows, pages, places = in_rows(pairs, len(told.batch.ids))
        taken = torch.zeros(rows.numel(), 1, dtype=torch.bool)
        taken[places] = True
        present = asked.present[rows.flatten()] & taken
        states, attention = self._read(asked, told, rows, pages, present)
        scored = self._score(asked, told, rows, pages, states.float(), attention.float())
        return Scores(*(each[places] for each in scored))

    def _read(
        self, asked: Asked, told: Told, rows: Tensor, pages: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """States (N, T, D) of the questions of `rows` (R, m), each row read beside one of the
        `pages` (R,), and the last layer's attention (N, H, T, L) to the page; N = R m. `present`:
        (N, T), where those questions have tokens.

        A page's keys are not copied for each question: a row's questions stand in one matrix."""
        count, many = rows.shape
        packing = Packing(present)
        states = packing.pack(asked.low[rows].flatten(0, 1))  # (M, D)
        to_page = _padding(told.batch.present[pages], states.dtype)
        to_question = _padding(present, states.dtype)
        heads, tokens = self.shape.heads, present.shape[1]
        length = to_page.shape[-1]
        size = self.shape.width // heads

        def in_rows(each: Tensor) -> Tensor:
            """(N, H, T, ?) to (R, H, m T, ?)"""
            split = each.view(count, many, heads, tokens, -1).transpose(1, 2)
            return split.reshape(count, heads, many * tokens, -1)

        def by_question(each: Tensor) -> Tensor:
            """(R, H, m T, ?) to (N, H, T, ?)"""
            split = each.view(count, heads, many, tokens, -1).transpose(1, 2)
            return split.reshape(count * many, heads, tokens, -1)

        paid_to_page = asked.low
        for number, layer_keys, layer_values in zip(
            self.shape.together, told.states.keys, told.states.values, strict=True
        ):
            layer = self._layers()[number]
            query, key, value = layer.projected(states, packing)
            page_key = layer_keys.index_select(0, pages)
            page_key = page_key + self.of_passage[number].view(1, heads, 1, size)
            beside = in_rows(query) @ page_key.transpose(-1, -2) + to_page
            own = in_rows(query @ key.transpose(-1, -2) + to_question)
            paid = torch.cat([beside, own], -1).softmax(-1).to(value.dtype)
            paid_to_page, paid_to_own = torch.split(paid, [length, tokens], dim=-1)
            attended = by_question(paid_to_page @ layer_values.index_select(0, pages))
            states = layer.rest(states, attended + by_question(paid_to_own) @ value, packing)
        return packing.spread(states), by_question(paid_to_page)

    def _score(
        self,
        asked: Asked,
        told: Told,
        rows: Tensor,
        pages: Tensor,
        states: Tensor,
        attention: Tensor,
    ) -> Scores:
        many, chosen = rows.shape[1], rows.flatten()
        present = asked.present[chosen]
        mean = _mean(states, present)  # (N, D)
        vectors = told.vectors.float()[pages].repeat_interleave(many, 0)  # (N, S, D)
        alone = asked.vectors.float()[chosen]
        close = functional.cosine_similarity(alone[:, None], vectors, dim=-1)  # (N, S)
        looked = self._looked(attention, present, told.batch.pooling[pages])
        read = torch.cat([states[:, 0], mean], -1)
        tokens, pointed, best = self._pointed(read, told, pages)
        question = mean[:, None].expand_as(vectors)
        features = [question, vectors, question * vectors, (question - vectors).abs()]
        features += [each[..., None] for each in (4 * close, looked, pointed, pointed - best)]
        scored: Tensor = self.score(torch.cat(features, -1)).squeeze(-1)
        scored = scored + 0.3 * self.closeness.exp() * close + looked
        nothing: Tensor = self.nothing(torch.cat([read, best], -1))
        has = told.batch.has[pages].repeat_interleave(many, 0)
        return Scores((scored - nothing).masked_fill(~has, ABSENT), tokens)

    def _pointed(self, read: Tensor, told: Told, pages: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What questions (N, 2 D), read beside `pages` (R,), point at: each token (N, L), what the
        tokens of each sentence come to (N, S), and the most that those of one do (N, 1)."""
        sentences = told.batch.has.shape[1]
        pointers: Tensor = self.point(read)
        pointers, none = pointers[:, :-1], pointers[:, -1:]
        spots = told.spots[pages]  # (R, L, W)
        tokens = pointers.view(len(pages), -1, spots.shape[-1]) @ spots.transpose(1, 2)
        tokens = tokens.flatten(0, 1) / POINTER_SCALE - none
        owner = told.batch.owner[pages].repeat_interleave(len(tokens) // len(pages), 0)  # (N, L)
        tokens = tokens.masked_fill(owner == sentences, ABSENT)
        largest = tokens.detach().amax(1, keepdim=True)
        sums = tokens.new_zeros(len(tokens), sentences + 1)
        sums = sums.scatter_add(1, owner, (tokens - largest).exp())[:, :-1]
        pointed = (sums + LEAST_SUM).log() + largest
        pointed = pointed.clamp(-MOST_POINTED, MOST_POINTED) / MOST_POINTED
        return tokens, pointed, pointed.amax(1, keepdim=True)

    def _looked(self, attention: Tensor, present: Tensor, pooling: Tensor) -> Tensor:
        """(N, S): what the attention that each sentence got, and its share of the most that one
        got, speak for; each head has a weight."""
        share = present.float() / present.sum(1, keepdim=True)
        paid = torch.einsum("nhtl,nt->nhl", attention, share)
        paid = paid.view(len(pooling), -1, *paid.shape[1:])  # (R, m, H, L)
        mass = torch.einsum("rmhl,rsl->rmsh", paid, (pooling > 0).float()).flatten(0, 1)
        mass = torch.log(mass + 1e-4)
        return torch.cat([mass, mass - mass.max(1, keepdim=True).values], -1) @ self.looked

    def _added(self) -> list[nn.Module]:
        """What scores; the base has none of it."""
        return [self.score, self.nothing, self.point, self.spot, self.narrow, self.weigh]

    def _words(self, states: Tensor) -> Tensor:
        return functional.normalize(self.narrow(states.float()), dim=-1)

    def _layers(self) -> list[ReaderLayer]:
        return [layer for layer in self.layers if isinstance(layer, ReaderLayer)]


def _head(inputs: int, inner: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inner), nn.GELU(), nn.Linear(inner, 1))


def _padding(present: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 1, 1, T), to be added to attention."""
    return torch.where(present, 0.0, ABSENT)[:, None, None, :].to(dtype)


def _mean(states: Tensor, present: Tensor) -> Tensor:
    """(B, T, D) to (B, D)"""
    counted = present.to(states.dtype)[..., None]
    return (states * counted).sum(1) / counted.sum(1).clamp(min=1)
