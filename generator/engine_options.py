"""The options that name an OpenAI-compatible engine on the command line."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the HTTP client takes a while to import
    from generator.remote import RemoteGenerator, RemoteLimits


def add_engine_options(
    parser: argparse.ArgumentParser, choice: "argparse._MutuallyExclusiveGroup"
) -> None:
    """`choice`: between this generator and the others."""
    choice.add_argument("--url", help="an OpenAI-compatible engine, as in http://127.0.0.1:8080/v1")
    parser.add_argument("--engine-model", help="what the engine at --url calls its network")
    parser.add_argument("--key-variable", help="environment variable that holds the engine's key")
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="of the CA whose certificate the engine has"
    )


def check_engine_options(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if options.url and not options.engine_model:
        parser.error("--url needs --engine-model")
    if not options.url and (options.engine_model or options.key_variable or options.ca_file):
        parser.error("--engine-model, --key-variable and --ca-file go with --url")
    if options.key_variable and options.key_variable not in os.environ:
        parser.error(f"there is no environment variable {options.key_variable}; export it first")


def engine_of(
    options: argparse.Namespace,
    parser: argparse.ArgumentParser,
    limits: "RemoteLimits | None" = None,
) -> "RemoteGenerator":
    from generator.remote import RemoteGenerator, RemoteLimits

    try:
        return RemoteGenerator(
            options.url,
            options.engine_model,
            os.environ[options.key_variable] if options.key_variable else None,
            ca_file=options.ca_file,
            remote_limits=limits or RemoteLimits(),
        )
    except ValueError as error:
        parser.error(str(error))
