"""`python -m intent`: train, evaluate and classify from the command line."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

from intent import commands as work
from intent.interface import IntentError, Promise, TrainingDataError

DATA_HELP = "file or folder: Rasa NLU .yml, .jsonl or .csv with text and intent"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # texts may hold what a terminal cannot show
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
    except IntentError as error:
        problems = error.problems if isinstance(error, TrainingDataError) else (str(error),)
        for problem in problems:
            print(problem, file=sys.stderr)
        if getattr(options, "progress", None) == "json":
            work.tell({"event": "failed", "problems": list(problems)})
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m intent", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    threads = argparse.ArgumentParser(add_help=False)
    threads.add_argument("--threads", type=_positive, default=1, help="CPU threads (default 1)")

    train = commands.add_parser("train", parents=[threads], help="examples to a file")
    train.add_argument("data", nargs="+", metavar="DATA", help=DATA_HELP)
    train.add_argument("--valid", nargs="+", metavar="DATA", help="instead of a held-out part")
    train.add_argument("--oos", nargs="+", metavar="DATA", help="utterances of no intent")
    train.add_argument(
        "--calibration", nargs="+", metavar="DATA", help="for the certificate alone, never learnt"
    )
    train.add_argument("-o", "--output", required=True, metavar="FILE")
    train.add_argument("--progress", choices=["auto", "plain", "json"], default="auto")
    train.add_argument("--seed", type=_natural, default=0)
    train.add_argument("--epochs", type=_positive, help="at most (default: by size of the data)")
    begin = train.add_mutually_exclusive_group()
    begin.add_argument("--encoder", metavar="FILE", help="another pre-trained encoder")
    begin.add_argument("--from-scratch", action="store_true", help="without any")
    train.add_argument("--cell", choices=["rnn", "gru", "lstm"], help="from scratch")
    train.add_argument("--layers", type=int, choices=range(1, 9), metavar="N", help="from scratch")
    train.add_argument("--directions", type=int, choices=[1, 2], help="from scratch")
    train.add_argument("--layer-norm", action="store_true", help="from scratch")
    train.add_argument(
        "--teacher", metavar="PATH", help="a transformer sentence encoder that helps to train"
    )
    train.add_argument(
        "--unlabelled",
        nargs="+",
        metavar="FILE",
        help="messages that the teacher judges: .txt, .jsonl",
    )
    train.add_argument("--created-at", metavar="TIME", help="noted in the file's card as it is")
    train.set_defaults(run=work.run_train)

    evaluate = commands.add_parser("evaluate", help="how good a file is, and where it is not")
    evaluate.add_argument("file", metavar="FILE")
    evaluate.add_argument("data", nargs="+", metavar="DATA", help=DATA_HELP)
    evaluate.add_argument("--oos", nargs="+", metavar="DATA", help="utterances of no intent")
    evaluate.add_argument(
        "--training", nargs="+", metavar="DATA", help="for leaks; else what the file remembers"
    )
    evaluate.add_argument("--json", action="store_true", help="all figures as one object")
    evaluate.add_argument("--report", metavar="FILE", help="one HTML page with plots")
    evaluate.set_defaults(run=work.run_evaluate)

    _add_certify(commands)

    explain = commands.add_parser("explain", help="why an utterance gets its intent")
    explain.add_argument("file", metavar="FILE")
    explain.add_argument("text", metavar="TEXT", nargs="+")
    explain.add_argument("--json", action="store_true")
    explain.set_defaults(run=work.run_explain)

    _add_pretrain(commands, threads)
    _add_teach_follow_ups(commands, threads)

    classify = commands.add_parser("classify", help='JSON lines {"text"} in, predictions out')
    classify.add_argument("file", metavar="FILE")
    classify.set_defaults(run=work.run_classify)
    return parser


def _add_certify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    certify = commands.add_parser("certify", help="how many instant answers may be wrong")
    certify.add_argument("file", metavar="FILE")
    certify.add_argument(
        "data", nargs="*", metavar="DATA", help="count on these; else what the training counted"
    )
    certify.add_argument("--oos", nargs="+", metavar="DATA", help="utterances of no intent")
    usual = Promise()
    certify.add_argument("--max-wrong", type=_share, default=usual.max_wrong_instant)
    certify.add_argument("--confidence", type=_share, default=usual.confidence)
    certify.add_argument("--least-in-scope", type=_share, default=usual.least_in_scope)
    certify.add_argument("-o", "--output", metavar="FILE", help="the same network, newly counted")
    certify.add_argument("--json", action="store_true")
    certify.add_argument("--picture", metavar="FILE", help="the risk-coverage curve as SVG")
    certify.set_defaults(run=work.run_certify)


def _add_pretrain(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    threads: argparse.ArgumentParser,
) -> None:
    pretrain = commands.add_parser(
        "pretrain", parents=[threads], help="a transformer's knowledge of sentences to an encoder"
    )
    pretrain.add_argument(
        "--corpus", nargs="+", required=True, metavar="FILE", help="sentences: .txt or .jsonl, .gz"
    )
    pretrain.add_argument("--teacher", required=True, metavar="PATH", help="a sentence encoder")
    pretrain.add_argument("-o", "--output", required=True, metavar="FILE")
    pretrain.add_argument(
        "--work", metavar="DIR", help="keeps what an interrupted run goes on from"
    )
    pretrain.add_argument("--epochs", type=_positive, default=None)
    pretrain.add_argument("--half", action="store_true", help="the teacher computes in bfloat16")
    pretrain.add_argument("--progress", choices=["auto", "plain", "json"], default="auto")
    pretrain.set_defaults(run=work.run_pretrain)


def _add_teach_follow_ups(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    threads: argparse.ArgumentParser,
) -> None:
    teach = commands.add_parser(
        "teach-follow-ups", parents=[threads], help="dialogues to a head that follows topics"
    )
    teach.add_argument(
        "--dialogues", nargs="+", required=True, metavar="FILE", help="with intents: .jsonl, .gz"
    )
    teach.add_argument("--encoder", metavar="FILE", help="another pre-trained encoder")
    teach.add_argument("-o", "--output", metavar="FILE", help="(default: beside the encoder)")
    teach.set_defaults(run=work.run_teach_follow_ups)


def _positive(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 100_000:
        raise argparse.ArgumentTypeError("must be from 1 to 100000")
    return number


def _natural(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**63:
        raise argparse.ArgumentTypeError("must be from 0 to 2^63 - 1")
    return number


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1")
    return share


if __name__ == "__main__":
    sys.exit(main())
