"""The server's secret and its settings."""

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.errors import ConfigurationError
from app.secret import FILE_NAME, load_secret
from app.settings import Settings


def settings_in(folder: Path, **values: object) -> Settings:
    return Settings(_env_file=None, data_dir=folder, **values)


def test_the_secret_is_made_once_and_only_we_can_read_it(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "new" / "data")
    secret = load_secret(settings)
    assert len(secret) >= 32
    assert load_secret(settings) == secret
    assert [one.name for one in settings.data_dir.iterdir()] == [FILE_NAME]
    assert stat.S_IMODE((settings.data_dir / FILE_NAME).stat().st_mode) == 0o600


def test_two_installations_have_different_secrets(tmp_path: Path) -> None:
    assert load_secret(settings_in(tmp_path / "a")) != load_secret(settings_in(tmp_path / "b"))


def test_all_who_start_at_the_same_moment_read_the_same_secret(tmp_path: Path) -> None:
    for attempt in range(20):
        settings = settings_in(tmp_path / str(attempt))
        barrier = threading.Barrier(8)

        def load(_: int, settings: Settings = settings, barrier: threading.Barrier = barrier):
            barrier.wait()
            return load_secret(settings)

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(load, range(8)))) == 1


def test_a_configured_secret_needs_no_file(tmp_path: Path) -> None:
    configured = "0123456789abcdef" * 2
    assert load_secret(settings_in(tmp_path, secret=configured)) == configured.encode()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "short", "\n" * 40])
def test_a_damaged_secret_is_refused_with_the_remedy(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(ConfigurationError, match=r"damaged; restore it .*start-over"):
        load_secret(settings_in(tmp_path))


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": "x" * 31},
        {"port": 70000},
        {"instant_threshold": 1.5},
        {"generation_seconds": 0},
        {"log_level": "loud"},
        {"max_open_turns": 0},
    ],
)
def test_a_setting_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, **wrong)


def test_a_refused_or_shown_secret_is_never_printed() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=None, secret="hunter2")
    assert "hunter2" not in str(refused.value.errors(include_input=False))
    assert "x" * 40 not in repr(Settings(_env_file=None, secret="x" * 40))


def test_settings_come_from_the_environment(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWOFOLD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TWOFOLD_PORT", "8123")
    settings = Settings(_env_file=None)
    assert (settings.data_dir, settings.port) == (tmp_path, 8123)


def test_without_a_database_url_the_data_folder_holds_a_sqlite_file(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert settings.is_sqlite
    assert settings.url == f"sqlite:///{tmp_path / 'twofold.db'}"
    assert not settings_in(tmp_path, database_url="postgresql://u@h/d").is_sqlite
