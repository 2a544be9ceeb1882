"""The server's secret: the pepper of stored key hashes and the signature of sessions."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from app.errors import ConfigurationError
from app.settings import Settings

FILE_NAME = "secret"


def load_secret(settings: Settings) -> bytes:
    """From the settings, else from a file in the data folder that only we can read, made once."""
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    path = settings.data_dir / FILE_NAME
    if not path.exists():
        _make(path)
    secret = path.read_text().strip()
    if len(secret) < 32:
        raise ConfigurationError(
            f"{path} is damaged; restore it or set TWOFOLD_SECRET; "
            "when it is lost, delete it and run `twofold keys start-over`, which ends every key"
        )
    return secret.encode()


def accepted_secrets(settings: Settings) -> tuple[bytes, ...]:
    """The secret, first, and the one that counts as well while the secret is being changed."""
    other = settings.other_secret
    return (load_secret(settings), *([other.get_secret_value().encode()] if other else []))


def _make(path: Path) -> None:
    """The file appears with its text in it, so that whoever else starts now reads all of it;
    of several who make it at once the first wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
