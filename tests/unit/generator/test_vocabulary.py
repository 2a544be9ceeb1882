"""A smaller vocabulary for a tokenizer."""

import json
from pathlib import Path

from tokenizers import Tokenizer

from generator.teaching.vocabulary import count_tokens, kept_tokens, pruned


def test_a_smaller_vocabulary_can_still_spell_every_word(base: Path) -> None:
    content = json.loads((base / "tokenizer.json").read_text("utf-8"))
    whole = Tokenizer.from_file(str(base / "tokenizer.json"))
    counts = count_tokens(whole, ["two tickets for the pool", "the pool"])
    assert counts["pool"] == 2
    kept = kept_tokens(content, counts, fewest=2)
    small = Tokenizer.from_str(json.dumps(pruned(content, kept)))
    before, after = whole.get_vocab(), small.get_vocab()
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    single = {token for token in before if len(token.removeprefix("##")) == 1}
    assert len(single) > 30
    assert special | single | {"pool", "the"} <= set(after)
    assert "bicycle" in before
    assert "bicycle" not in after
    assert sorted(after.values()) == list(range(len(kept)))
    assert {before[token] for token in after} == set(kept)
    spelt = small.encode("bicycle pool", add_special_tokens=False).tokens
    assert "[UNK]" not in spelt
    assert "".join(token.removeprefix("##") for token in spelt) == "bicyclepool"


def test_without_counts_only_what_is_never_used_is_left_out(base: Path) -> None:
    content = json.loads((base / "tokenizer.json").read_text("utf-8"))
    content["added_tokens"] = [
        one for one in content["added_tokens"] if one["content"] != "[unused0]"
    ]
    kept = kept_tokens(content, None, fewest=2)
    tokens = {number: token for token, number in content["model"]["vocab"].items()}
    assert {tokens[number] for number in set(tokens) - set(kept)} == {"[unused0]"}
