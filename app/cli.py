"""The command `twofold`. Heavy modules are imported by the command that needs them."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.database.database import Database
    from app.settings import Settings

VERSION = "0.1.0"

cli = typer.Typer(
    help="Twofold: a chatbot that answers what it knows at once, and generates the rest.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)
cli.add_typer(keys, name="keys")
documents = typer.Typer(
    help="Add, list and remove what questions are answered from.", no_args_is_help=True
)
cli.add_typer(documents, name="documents")
conversations = typer.Typer(help="What was said.", no_args_is_help=True)
cli.add_typer(conversations, name="conversations")


def main() -> None:
    # The matrices of a turn are small: a second thread of NumPy's would only wait, and burn a core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from app.errors import TwofoldError

    try:
        cli()
    except TwofoldError as error:
        typer.secho(error.message, fg="red", err=True)
        raise SystemExit(1) from error


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Default: TWOFOLD_HOST or 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: TWOFOLD_PORT or 8000.")] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="With the bundled assistant, open to guests.")
    ] = False,
) -> None:
    """Run the server."""
    from app import serving

    settings = _settings()
    changes: dict[str, object] = {}
    if host is not None:
        changes["host"] = host
    if port is not None:
        changes["port"] = port
    if demo:
        changes |= {"guests": True, "log_level": "warning"}
    serving.serve(settings.model_copy(update=changes), demo=demo)


@cli.command()
def worker() -> None:
    """Run training jobs beside the servers (PostgreSQL only)."""
    import asyncio

    from app import worker as training_worker
    from app.serving import set_up_logging

    settings = _settings()
    set_up_logging(settings)
    asyncio.run(training_worker.run(settings))


@cli.command()
def chat(
    url: Annotated[str, typer.Option(help="A running server.")] = "http://127.0.0.1:8000",
    key: Annotated[str, typer.Option(envvar="TWOFOLD_KEY", help="An API key.")] = "",
) -> None:
    """Chat in the terminal."""
    from app import terminal_chat

    terminal_chat.run(url, key)


@cli.command("import")
def import_(
    paths: Annotated[
        list[Path], typer.Argument(help="Rasa YAML, JSONL, CSV; Markdown, text, HTML.")
    ],
) -> None:
    """Add training data, replies and documents from files and folders."""
    from app import exchange

    found = exchange.read(paths)
    with _database() as database:
        done = database.write_now(lambda c: exchange.store(c, found))
    for notice in found.notices:
        typer.secho(notice, fg="yellow", err=True)
    typer.echo(
        f"{done.intents} intents, {done.examples} new examples, "
        f"{done.replies} replies, {done.documents} documents"
    )


@cli.command()
def export(
    path: Annotated[Path, typer.Argument(help="Ends in .yml (Rasa), .jsonl or .csv.")],
) -> None:
    """Write all training examples to a file."""
    from app import exchange

    if path.suffix not in (".yml", ".yaml", ".jsonl", ".csv"):
        raise typer.BadParameter("the ending names the format: .yml, .jsonl or .csv")
    with _database() as database:
        count = database.read_now(lambda c: exchange.export(c, path))
    typer.echo(f"{count} examples")


@documents.command("add")
def add_documents(
    files: Annotated[list[Path], typer.Argument(help="Markdown, text or HTML; folders, too.")],
) -> None:
    """Add documents, named after their files, or replace those of the same name."""
    from app import exchange
    from app.errors import InvalidInput

    found = exchange.read(files)
    if found.training.examples or found.replies:
        raise InvalidInput("these files hold training data; `twofold import` takes them")
    with _database() as database:
        database.write_now(lambda c: exchange.store(c, found))
    typer.echo(f"{len(found.documents)} documents: {', '.join(found.documents)}")


@documents.command("list")
def list_documents() -> None:
    from app.database import documents as stored

    with _database() as database:
        for one in database.read_now(stored.everything):
            typer.echo(
                f"{one.name}  {one.passages} passages  {one.updated_at:%Y-%m-%d}  {one.title}"
            )


@documents.command("remove")
def remove_document(
    name: Annotated[str, typer.Argument(help="As `documents list` shows it.")],
) -> None:
    """Nothing is answered from it any more."""
    from app.database import documents as stored

    with _database() as database:
        database.write_now(lambda c: stored.remove(c, name))
    typer.echo(f"{name} is gone")


@conversations.command("export")
def export_conversations(
    path: Annotated[Path, typer.Argument(help="A new file, .jsonl.")],
    days: Annotated[float | None, typer.Option(min=0.0, help="Only the last ones.")] = None,
) -> None:
    """Write conversations to a file, for `python -m generator train` and others.

    One in a line, as `{"messages": [{"role", "content"}]}`. Turns that failed, were cancelled,
    got a substitute for a reply or were disliked are left out. The file holds what people said:
    `twofold erase` does not reach it.
    """
    from app import exchange

    with _database() as database:
        count = database.read_now(lambda c: exchange.export_conversations(c, path, days=days))
    typer.echo(f"{count} conversations; erasing does not reach {path}, so keep it no longer")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="chat, admin:read or admin:write, as often as needed; "
            "`user` stands for chat (the default), `admin` for all."
        ),
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="It expires after so many.")] = None,
) -> None:
    """Make a key and print it, this once."""
    from datetime import UTC, datetime, timedelta

    from app.database import api_keys
    from app.errors import InvalidInput
    from app.secret import accepted_secrets

    try:
        scopes = api_keys.scopes_named(scope or ["chat"])
    except InvalidInput as error:
        raise typer.BadParameter(error.message, param_hint="--scope") from error
    secrets = accepted_secrets(_settings())
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    with _database() as database:
        database.write_now(lambda c: api_keys.check_pepper(c, secrets))
        _, key = database.write_now(
            lambda c: api_keys.create(
                c, name[:100], scopes, pepper=secrets[0], expires_at=expires_at
            )
        )
    typer.echo(key)


@keys.command("list")
def list_keys() -> None:
    """One line a key: id, scopes, prefix, state, name."""
    from datetime import UTC, datetime

    from app.database import api_keys
    from app.secret import load_secret

    pepper = load_secret(_settings())
    with _database() as database:
        before = database.read_now(lambda c: api_keys.under_another_pepper(c, pepper))
        for key in database.read_now(api_keys.everything):
            if key.revoked_at:
                state = "revoked"
            elif key.expires_at and key.expires_at <= datetime.now(UTC):
                state = "expired"
            else:
                state = "old-secret" if key.id in before else "living"
            scopes = ",".join(sorted(key.scopes))
            typer.echo(f"{key.id}  {scopes:<27}  tf_{key.prefix}_…  {state:<10}  {key.name}")


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="As `keys list` shows it.")]) -> None:
    """Revoke a key; its sessions end with it."""
    from app.database import api_keys

    with _database() as database:
        database.write_now(lambda c: api_keys.revoke(c, key_id))
    typer.echo("revoked")


@keys.command("start-over")
def start_over(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End every key and every session: for a secret that is lost, or known to strangers."""
    from app.database import api_keys
    from app.secret import load_secret

    if not yes:
        typer.confirm("Every key and every session ends. Go on?", abort=True)
    pepper = load_secret(_settings())
    with _database() as database:
        ended = database.write_now(lambda c: api_keys.start_over(c, pepper))
    typer.echo(f"{ended} keys revoked")


@cli.command()
def recalibrate(
    even_uncertified: Annotated[
        bool,
        typer.Option("--even-uncertified", help="Serve it also where it certifies nothing."),
    ] = False,
) -> None:
    """Count the live version's certificate on the labelled sample of turns, and serve it.

    The sample is drawn and labelled at /admin#review/sample; exit status 1 where its labels do
    not bear the promise out, and then nothing changes. Undo with a roll-back.
    """
    import asyncio

    from app.main import load_classifier
    from app.recalibration import Recalibrator
    from intent.terminal import certificate_summary

    promise = _settings().promise
    with _database() as database:
        recalibrator = Recalibrator(database, load_classifier, promise)
        found = asyncio.run(recalibrator.recalibrate(by="cli", even_uncertified=even_uncertified))
    typer.echo(certificate_summary(found.certificate))
    if found.unknown:
        typer.echo(
            f"{found.unknown} messages of intents that this version does not know count as out of "
            "scope; train another for them"
        )
    if found.model_version is not None:
        typer.echo(f"version {found.model_version} is live")
        return
    typer.echo("nothing was changed")
    if found.more:
        typer.echo(f"label about {found.more} more: enlarge the sample at /admin#review/sample")
    raise typer.Exit(1)


@cli.command()
def erase(
    owner: Annotated[
        str | None, typer.Option(help="Everything of this owner: key:<id> or guest:<id>.")
    ] = None,
    conversation: Annotated[str | None, typer.Option(help="One conversation, by its id.")] = None,
) -> None:
    """Take out everything of a person, or a conversation; prints the receipt."""
    import asyncio

    from app.database.erasure import By, Receipt, Retention
    from app.eraser import Eraser

    if (owner is None) == (conversation is None):
        raise typer.BadParameter("say --owner or --conversation, one of them")

    async def run(eraser: Eraser) -> Receipt:
        if owner is not None:
            return await eraser.erase_owner(owner, By.OPERATOR)
        assert conversation is not None
        return await eraser.erase_conversation(None, conversation, By.OPERATOR)

    with _database() as database:
        receipt = asyncio.run(run(Eraser(database, Retention())))
    typer.echo(json.dumps(receipt.to_json(), indent=2))


@cli.command()
def retention(
    days: Annotated[
        float | None, typer.Option(min=0.0, help="Default: TWOFOLD_RETENTION_DAYS.")
    ] = None,
) -> None:
    """Count what has become too old; the server takes it out by itself. Changes nothing."""
    from app.database import erasure

    settings = _settings()
    rule = erasure.Retention(settings.retention_days, settings.guest_retention_days)
    if days is not None:
        rule = erasure.Retention(days)
    if not rule.is_on:
        typer.echo("everything is kept: TWOFOLD_RETENTION_DAYS is 0; try --days")
        return
    with _database() as database:
        due = database.read_now(lambda c: erasure.due(c, rule))
    typer.echo(f"{due.conversations} conversations, {due.turns} turns, {due.examples} examples")


@cli.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Check this installation and the running server; exit status 1 when something is wrong."""
    from app import doctor as examination

    findings = examination.examine(_settings())
    if as_json:
        typer.echo(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        for finding in findings:
            mark, colour = ("ok  ", "green") if finding.fine else ("FAIL", "red")
            typer.secho(mark, fg=colour, nl=False)
            typer.echo(f"  {finding.name:<16} {finding.detail}")
    if not all(finding.fine for finding in findings):
        raise typer.Exit(1)


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"twofold {VERSION}")


def _settings() -> "Settings":
    from pydantic import ValidationError

    from app.errors import ConfigurationError
    from app.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"TWOFOLD_{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}"
            for one in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigurationError("\n".join(lines)) from None


class _database:
    """The configured database, migrated, for one command."""

    def __enter__(self) -> "Database":
        from app.database.database import Database
        from app.database.migration import migrate

        settings = _settings()
        if settings.is_sqlite:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.database = Database(settings.url)
        try:
            self.database.write_now(migrate)
        except BaseException:
            self.database.close()
            raise
        return self.database

    def __exit__(self, *_: object) -> None:
        self.database.close()


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    main()
