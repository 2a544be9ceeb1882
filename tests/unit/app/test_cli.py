"""The command line, on a data folder of its own."""

import json
import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner, Result

from app.cli import VERSION, cli
from app.database import api_keys, conversations, documents, intents, turns
from app.database.api_keys import ADMIN, Scope
from app.database.database import Database
from app.dialogue.turn import Feedback, Reply
from app.errors import ConfigurationError, InvalidInput, NotFound, TwofoldError
from app.secret import load_secret
from app.settings import Settings
from generator.interface import ChatMessage
from generator.seq2seq.conversations import read as read_conversations
from tests.fake_engine import DONE, STREAM, delta, fake_engine, status, url_of_nobody
from tests.unit.app import stored

NLU = """version: "3.1"
nlu:
- intent: greet
  examples: |
    - hello there
    - good morning
- intent: goodbye
  examples: |
    - bye
    - see you later
responses:
  utter_greet:
  - text: Hello!
  - text: Hi!
"""

Run = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # away from a developer's own .env
    monkeypatch.setenv("TWOFOLD_DATA_DIR", str(tmp_path / "var"))
    for name in ("TWOFOLD_DATABASE_URL", "TWOFOLD_SECRET"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def twofold(folder: Path) -> Run:
    def run(*arguments: object, fails: bool = False) -> Result:
        result = CliRunner().invoke(cli, [str(one) for one in arguments])
        assert (result.exit_code != 0) == fails, result.output
        return result

    return run


@pytest.fixture
def nlu(folder: Path) -> Path:
    path = folder / "nlu.yml"
    path.write_text(NLU)
    return path


def opened(folder: Path) -> Database:
    return Database(f"sqlite:///{folder / 'var' / 'twofold.db'}")


def test_the_version_is_the_projects(twofold: Run) -> None:
    assert twofold("version").output == f"twofold {VERSION}\n"


def test_a_created_key_opens_with_its_scope(twofold: Run, folder: Path) -> None:
    key = twofold("keys", "create", "Ada", "--scope", "admin").output.strip()
    pepper = load_secret(Settings(_env_file=None))
    database = opened(folder)
    prefix = api_keys.prefix_of(key)
    keys, _ = database.read_now(lambda c: api_keys.living(c, [prefix], []))
    database.close()
    assert keys[prefix].hash == api_keys.hash_of(key, pepper)
    assert (keys[prefix].key.name, keys[prefix].key.scopes) == ("Ada", ADMIN)


def test_a_key_has_the_scopes_and_the_end_that_it_was_made_with(twofold: Run, folder: Path) -> None:
    twofold("keys", "create", "eyes", "--scope", "chat", "--scope", "admin:read", "--days", 30)
    database = opened(folder)
    (key,) = database.read_now(api_keys.everything)
    database.close()
    assert key.scopes == {Scope.CHAT, Scope.ADMIN_READ}
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at).days in (29, 30)


def test_a_secret_that_was_lost_ends_every_key_and_says_so(twofold: Run, folder: Path) -> None:
    old = twofold("keys", "create", "Ada").output.strip()
    (folder / "var" / "secret").unlink()
    refused = twofold("keys", "create", "Bob", fails=True).exception
    assert isinstance(refused, ConfigurationError)
    assert "start-over" in refused.message
    assert " old-secret " in twofold("keys", "list").output
    assert twofold("keys", "start-over", "--yes").output == "1 keys revoked\n"
    assert " revoked " in twofold("keys", "list").output
    assert twofold("keys", "create", "Bob").output.strip() != old


def test_keys_are_listed_without_their_secret_and_revoked(twofold: Run) -> None:
    key = twofold("keys", "create", "Ada").output.strip()
    listed = twofold("keys", "list").output
    key_id, scope, prefix, state, name = listed.split()
    assert (scope, state, name) == ("chat", "living", "Ada")
    assert prefix == f"{key[:12]}…"
    assert key not in listed
    twofold("keys", "revoke", key_id)
    assert " revoked " in twofold("keys", "list").output
    again = twofold("keys", "revoke", key_id, fails=True)
    assert isinstance(again.exception, NotFound)


def test_an_unknown_scope_is_refused(twofold: Run) -> None:
    said = twofold("keys", "create", "Ada", "--scope", "god", fails=True).output
    assert "no such scope" in said
    assert "god" not in said


def test_imported_data_is_there_once_and_comes_out_again(
    twofold: Run, folder: Path, nlu: Path
) -> None:
    (folder / "docs").mkdir()
    (folder / "docs" / "shop.md").write_text("# Shop\n\nOpen from nine to five.")
    said = twofold("import", nlu, folder / "docs").output
    assert said == "2 intents, 4 new examples, 2 replies, 1 documents\n"
    assert "0 new examples" in twofold("import", nlu).output
    database = opened(folder)
    greet = database.read_now(lambda c: intents.get(c, "greet"))
    shop = database.read_now(lambda c: documents.get(c, "shop"))
    database.close()
    assert (greet.examples, greet.replies) == (2, ("Hello!", "Hi!"))
    assert shop.title == "Shop"


@pytest.mark.parametrize("ending", [".yml", ".jsonl", ".csv"])
def test_what_is_exported_can_be_imported_elsewhere(
    twofold: Run, folder: Path, nlu: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    twofold("import", nlu)
    out = folder / f"all{ending}"
    assert twofold("export", out).output == "4 examples\n"
    monkeypatch.setenv("TWOFOLD_DATA_DIR", str(folder / "elsewhere"))
    assert "2 intents, 4 new examples" in twofold("import", out).output


def test_an_export_names_its_format_by_its_ending(twofold: Run, folder: Path) -> None:
    twofold("export", folder / "all.xlsx", fails=True)
    assert not (folder / "all.xlsx").exists()


@pytest.mark.parametrize("name", ["missing.yml", "picture.png"])
def test_a_file_that_cannot_be_imported_is_named(twofold: Run, folder: Path, name: str) -> None:
    (folder / "picture.png").write_bytes(b"\x89PNG")
    refused = twofold("import", folder / name, fails=True).exception
    assert isinstance(refused, InvalidInput)
    assert name in refused.message


def test_a_broken_training_file_stores_nothing(twofold: Run, folder: Path, nlu: Path) -> None:
    (folder / "broken.yml").write_text("nlu: [")
    refused = twofold("import", nlu, folder / "broken.yml", fails=True).exception
    assert isinstance(refused, InvalidInput)
    assert "broken.yml" in refused.message
    assert twofold("export", folder / "all.csv").output == "0 examples\n"


def test_the_doctor_finds_a_fresh_installation_well_and_touches_nothing(
    twofold: Run, folder: Path
) -> None:
    findings = {one["name"]: one for one in json.loads(twofold("doctor", "--json").output)}
    assert all(one["fine"] for one in findings.values())
    assert {"python", "torch", "sqlite", "database", "secret", "disk", "server"} <= set(findings)
    assert findings["server"]["detail"] == "not running"
    assert not (folder / "var").exists()


def test_the_doctor_sees_a_secret_that_others_can_read(twofold: Run, folder: Path) -> None:
    twofold("keys", "create", "Ada")
    assert all(one["fine"] for one in json.loads(twofold("doctor", "--json").output))
    (folder / "var" / "secret").chmod(0o644)
    said = twofold("doctor", fails=True).output
    assert "FAIL" in said
    assert "make it 600" in said


def test_the_doctor_asks_a_remote_engine_for_a_word(
    twofold: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generators() -> dict:
        result = CliRunner().invoke(cli, ["doctor", "--json"])
        [finding] = [one for one in json.loads(result.output) if one["name"] == "generators"]
        assert result.exit_code == (0 if finding["fine"] else 1)
        return finding

    assert generators()["detail"] == "embedded"
    monkeypatch.setenv("TWOFOLD_GENERATORS", "remote,embedded")
    assert "needs TWOFOLD_REMOTE_URL" in generators()["detail"]
    monkeypatch.setenv("TWOFOLD_REMOTE_MODEL", "tiny")
    monkeypatch.setenv("TWOFOLD_REMOTE_URL", "no-scheme/v1")
    assert "looks like https://host/v1" in generators()["detail"]
    monkeypatch.setenv("TWOFOLD_REMOTE_URL", url_of_nobody())
    assert "start it, or check the base URL" in generators()["detail"]
    with fake_engine(status(401)) as engine:
        monkeypatch.setenv("TWOFOLD_REMOTE_URL", engine.url)
        assert "the engine refused the key" in generators()["detail"]
        engine.answer = STREAM + delta("Hello.") + DONE
        well = generators()
        assert (well["fine"], well["detail"]) == (True, "remote, embedded; remote answers")
        assert engine.bodies[-1]["model"] == "tiny"


def test_the_doctor_asks_an_engine_behind_a_ca_of_ones_own(
    twofold: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ca, tls, path = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tmp_path / "ca.pem"
    ca.issue_cert("127.0.0.1").configure_cert(tls)

    def generators() -> str:
        found = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).output)
        return next(one["detail"] for one in found if one["name"] == "generators")

    monkeypatch.setenv("TWOFOLD_GENERATORS", "remote")
    monkeypatch.setenv("TWOFOLD_REMOTE_MODEL", "tiny")
    with fake_engine(STREAM + delta("Hello.") + DONE, tls=tls) as engine:
        monkeypatch.setenv("TWOFOLD_REMOTE_URL", engine.url)
        assert "give that CA's certificate as the CA file" in generators()
        monkeypatch.setenv("TWOFOLD_REMOTE_CA_FILE", str(path))
        assert f"TWOFOLD_REMOTE_CA_FILE: there is no CA file {path}" in generators()
        path.touch()
        assert "is empty, damaged or not PEM" in generators()
        ca.cert_pem.write_to_path(path)
        assert generators() == "remote; remote answers"


def test_a_wrong_setting_is_named_without_its_value(
    twofold: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOFOLD_SECRET", "hunter2")
    refused = twofold("keys", "list", fails=True).exception
    assert isinstance(refused, ConfigurationError)
    assert refused.message.startswith("TWOFOLD_SECRET: ")
    assert "hunter2" not in refused.message


def test_a_database_that_is_away_is_said_in_one_sentence(
    twofold: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOFOLD_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    refused = twofold("keys", "list", fails=True).exception
    assert isinstance(refused, TwofoldError)
    assert "does not answer" in refused.message


def test_erasing_prints_a_receipt(twofold: Run, folder: Path) -> None:
    twofold("keys", "list")  # makes the database
    database = Database(f"sqlite:///{folder / 'var' / 'twofold.db'}")
    mine, other = (
        database.write_now(lambda c: conversations.create(c, "key:ada", variables=None)).id
        for _ in range(2)
    )
    database.close()
    one = json.loads(twofold("erase", "--conversation", mine).stdout)
    assert (one["kind"], one["rows"]["conversations"]) == ("conversation", 1)
    everything = json.loads(twofold("erase", "--owner", "key:ada").stdout)
    assert (everything["kind"], everything["rows"]["conversations"]) == ("owner", 1)
    assert everything["requested_by"] == "operator"
    assert other not in json.dumps(everything)
    assert isinstance(twofold("erase", "--conversation", mine, fails=True).exception, NotFound)
    twofold("erase", fails=True)
    twofold("erase", "--owner", "key:ada", "--conversation", mine, fails=True)


def test_the_retention_is_counted_and_nothing_changes(twofold: Run) -> None:
    assert "everything is kept" in twofold("retention").stdout
    assert twofold("retention", "--days", 1).stdout == "0 conversations, 0 turns, 0 examples\n"


def test_conversations_come_out_as_the_generator_learns_from_them(
    twofold: Run, folder: Path
) -> None:
    twofold("keys", "list")  # makes the tables
    database = opened(folder)
    first, second = stored.conversation(database), stored.conversation(database, "bob")

    def said(text: str, reply: Reply, *, rating: str | None = None) -> None:
        turn = database.write_now(stored.accept(first, text))
        database.write_now(lambda c: turns.finish(c, turn.id, turn.fence, reply, stored.NO_TIME))
        if rating:
            database.write_now(lambda c: turns.rate(c, "ada", turn.id, Feedback(rating)))

    said("how late are you open?", Reply("Until „eight“.\nOn Sundays: never."))
    said("is that so?", Reply("Sorry, that took too long.", degraded="deadline"))
    said("and the pool?", Reply("I don't know a pool.", degraded="fallback"), rating="up")
    said("you are no use", Reply("Nor are you."), rating="down")
    database.write_now(stored.accept(second, "anybody there?", owner="bob"))
    database.close()
    out = folder / "conversations.jsonl"
    assert twofold("conversations", "export", out).output.startswith("1 conversations;")
    assert out.stat().st_mode & 0o077 == 0
    (conversation,) = read_conversations([out])
    assert conversation == (
        ChatMessage("user", "how late are you open?"),
        ChatMessage("assistant", "Until „eight“.\nOn Sundays: never."),
        ChatMessage("user", "and the pool?"),
        ChatMessage("assistant", "I don't know a pool."),
    )
    again = twofold("conversations", "export", out, fails=True)
    assert isinstance(again.exception, InvalidInput)
    assert read_conversations([out]) == [conversation]
    none = folder / "none.jsonl"
    assert twofold("conversations", "export", none, "--days", "0").output.startswith("0 ")
    assert none.read_text("utf-8") == ""


def test_documents_are_added_listed_replaced_and_removed(
    twofold: Run, folder: Path, nlu: Path
) -> None:
    page = folder / "opening-hours.html"
    page.write_text("<h1>Hours</h1><p>From nine to five.</p>")
    assert twofold("documents", "add", page).output == "1 documents: opening-hours\n"
    page.write_text("<h1>Hours</h1><p>From ten to five.</p><h2>Sundays</h2><p>Closed.</p>")
    twofold("documents", "add", page)
    [line] = twofold("documents", "list").output.splitlines()
    assert re.fullmatch(r"opening-hours  2 passages  \d{4}-\d\d-\d\d  Hours", line)
    twofold("documents", "add", nlu, fails=True)
    twofold("documents", "remove", "nothing", fails=True)
    twofold("documents", "remove", "opening-hours")
    assert twofold("documents", "list").output == ""
