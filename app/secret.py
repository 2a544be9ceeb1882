"""The server's secret: the pepper of stored key hashes and the signature of sessions."""

import os
import secrets

from app.errors import ConfigurationError
from app.settings import Settings

FILE_NAME = "secret"


def load_secret(settings: Settings) -> bytes:
    """From the settings, else from a file in the data folder that only we can read, made once."""
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    path = settings.data_dir / FILE_NAME
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
    secret = path.read_text().strip()
    if len(secret) < 32:
        raise ConfigurationError(
            f"{path} is damaged; delete it (all API keys become void) or set TWOFOLD_SECRET"
        )
    return secret.encode()
