"""What the hybrid saves, and what that costs: measured at a running server, over HTTP.

    TWOFOLD_DATA=/path/to/data python -m benchmarks.hybrid --model FOLDER [--minilm FOLDER]

The data folder holds intents/clinc150/, as for benchmarks.intent, and dialogues/. The network
learns from the train part, as an operator's intents. Of the valid part (with all that is out of
scope but the test's) every fifth utterance stops the training and chooses the thresholds that are
tried, the others are counted for the certificate; messages are drawn from the test part.
`--artifact` keeps the network, and takes it from there the next time. `--model` is any Hugging Face
causal language model; `--random 30m` one of random weights.

1. Generator only: no version is promoted yet, so that everything is generated. Messages in and out
   of scope are generated once, eight at a time, for `--seconds`; latency, tokens and CPU kept.
2. Every router decides every message of every mix over HTTP; the first that ours answers instantly
   are posted, too. What is to be generated is replayed: the message's own recorded generation, or
   another's of the same scope.
3. A stream is really answered, to see whether the replay is right; and instant turns are timed
   idle and with eight generations under way, in turn.
4. Follow-ups, without HTTP: the shipped head decides half of the held-out dialogues of
   dialogues/sgd_dev.jsonl.gz, as `python -m benchmarks.follow_ups` does with both halves.

Saving: how many times fewer calls of the generator. An oracle answers all that is in scope
instantly, and nothing else; what is kept of its saving is the headline. Everything is VOID, and
the exit code 1, unless at each mix that is certified the wrong instant answers are shown to be
few (Clopper-Pearson, one-sided 95 %) and hardly fewer messages end well than with the generator
alone, whose replies all count as good. The server promises less (`--promised-wrong`) than is to be
shown: some thousand answers cannot show a share that is just kept.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks.hybrid.bench import Bench
from benchmarks.hybrid.data import Data
from benchmarks.hybrid.figures import Gate, void
from benchmarks.hybrid.report import picture, show
from generator.bench import size_of
from generator.local.random_network import write_random_network


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    root = os.environ.get("TWOFOLD_DATA")
    if not root:
        print("skipped: set TWOFOLD_DATA to the folder that holds intents/")
        return 0
    folder = Path(root, "intents", "clinc150")
    if not folder.is_dir():
        print(f"skipped: {folder} does not exist")
        return 0
    weights = size_of(options.random) if options.random else None
    if options.random and weights is None:
        parser.error("--random takes a size such as 500k or 30m")
    log = Console(stderr=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if weights is not None:
            options.model = scratch / "random"
            write_random_network(options.model, weights)
        dialogues = Path(root, "dialogues")
        results = Bench(options, Data.of(folder), dialogues, scratch, stack, log).run()
    gate = Gate(most_wrong=options.shown_wrong)
    reasons = void(results.mixes, gate)
    # So that a table sent to a file is not folded.
    show(results, gate, Console(width=None if sys.stdout.isatty() else 160))
    if options.json:
        content = json.dumps(results.to_json(gate), indent=1)
        options.json.write_text(content, encoding="utf-8")
    if options.picture:
        options.picture.write_text(picture(results, gate), encoding="utf-8")
    return 1 if reasons else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hybrid",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    generator = parser.add_mutually_exclusive_group()
    generator.add_argument("--model", type=Path, metavar="FOLDER", help="a causal language model")
    generator.add_argument("--random", default="30m", metavar="SIZE", help="default: 30m")
    parser.add_argument("--minilm", type=Path, metavar="FOLDER", help="all-MiniLM-L6-v2")
    parser.add_argument("--artifact", type=Path, metavar="FILE", help="the trained network")
    parser.add_argument(
        "--mixes",
        type=float,
        nargs="+",
        default=(0.6, 0.9, 0.3),
        metavar="SHARE",
        help="in scope; the first is also answered live",
    )
    parser.add_argument("--messages", type=int, default=5_000, help="at most, of a mix")
    parser.add_argument("--seconds", type=float, default=200.0, help="of generating, alone")
    parser.add_argument("--tokens", type=int, default=48, help="longest reply")
    parser.add_argument("--precision", default="bfloat16", help="the generator's")
    parser.add_argument("--promised-wrong", type=float, default=0.045, metavar="SHARE")
    parser.add_argument("--shown-wrong", type=float, default=0.05, metavar="SHARE")
    parser.add_argument("--price", type=float, default=0.04, help="of a CPU hour, any currency")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="SVG")
    return parser


if __name__ == "__main__":
    sys.exit(main())
