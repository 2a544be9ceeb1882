"""Every setting, read once at start from the environment (prefix TWOFOLD_) or .env."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from intent.interface import Promise


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="TWOFOLD_", env_file=".env", extra="ignore")

    data_dir: Path = Path("var")
    """Holds the SQLite file and the secret, where neither is configured."""
    database_url: str = ""
    """Empty: SQLite in data_dir. Else for example postgresql+psycopg://user:pw@host/name."""
    secret: SecretStr | None = None
    """Pepper of API keys and session cookies; at least 32 characters, the same on every replica.
    Unset: a file in data_dir, made at first start."""
    other_secret: SecretStr | None = None
    """While the secret is being changed: a second one whose keys and sessions count as well.
    The steps are in docs/access.md."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    guests: bool = False
    """May people chat in the browser without an API key?"""
    secure_cookies: bool = False
    """Set it when people reach the server by https only: browsers then take the session's
    cookie from no other place. A request that came by https gets a secure cookie anyway."""
    trusted_proxies: str = "127.0.0.1"
    """Whose word on people's addresses and on https counts; comma-separated, networks too. Behind
    a proxy that is not named here, all people share its address and its sign-in limits."""
    embedded_worker: bool = True
    """Train inside this server's process tree; false where `twofold worker` runs beside it."""

    # The promise that instant answers are held to, see docs/decisions/0023.
    max_wrong_instant: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Of the instant answers, the share that may be wrong."""
    promise_confidence: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """How sure that must be, over the draw of the utterances that it was tested on."""
    least_in_scope: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Of the messages, the share that is in scope at least; with more, the promise holds, too."""
    instant_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """Least confidence for an instant answer, instead of a promise."""
    max_wrong_instant_under_pressure: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The same while most of the generator's places are taken, or most of its budget is spent:
    then the loosest threshold that is certified for this counts. Unset: the promise stays."""

    generators: str = "embedded"
    """The chain, first choice first, comma-separated: embedded, remote, local, seq2seq. A
    fixed apology always stands behind the last one."""
    remote_url: str = ""
    """An OpenAI-compatible engine's base URL, for example http://127.0.0.1:8001/v1."""
    remote_model: str = ""
    remote_key: SecretStr | None = None
    remote_ca_file: Path | None = None
    """Where the engine's certificate is of a CA of your own: that CA's certificate, PEM. Then only
    it is trusted; unset: the CAs that the system trusts. Read at start."""
    remote_context_tokens: Annotated[int, Field(ge=512)] = 8192
    """What the engine reads at once, prompt and reply together; older messages and weaker passages
    that do not fit are left out. Many engines are started with less than their network could."""
    local_model: str = ""
    """A Hugging Face causal language model: a folder or a hub name."""
    local_precision: Literal["float32", "bfloat16", "int8"] = "float32"
    """What it computes in; int8 is for CPUs and takes a quarter of float32's memory."""
    local_threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of its process; 0: as many as torch chooses."""
    local_batch: Annotated[int, Field(ge=1, le=256)] = 16
    """Most replies that it writes at once."""
    local_cache_mb: Annotated[int, Field(ge=1)] = 1024
    """Memory for the attention of these replies. Long ones wait until there is room."""
    local_context_tokens: Annotated[int, Field(ge=0)] = 0
    """Longest prompt and reply together; 0: what the model says it can read."""
    local_plain_chat: bool = False
    """Take a model without a chat template, too, and write "User: …" lines for it."""
    seq2seq_folder: Path | None = None
    """Written by `python -m generator train`."""
    generation_seconds: Annotated[float, Field(gt=0, le=600)] = 60.0
    first_piece_seconds: Annotated[float, Field(gt=0, le=600)] = 20.0
    """A generator that has said nothing by then is late: the next one of the chain answers."""
    generation_tokens: Annotated[int, Field(gt=0, le=8192)] = 256
    system_prompt: str = (
        "You are a helpful assistant. Answer from the given reference passages when they fit; "
        "say openly when you do not know. Keep it short."
    )

    proof_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Of the instant turns, how many the generator answers as well, in idle moments, to see what
    they save and how often it says something else; 0 turns it off."""

    # What the ledger calculates with; it keeps what was measured, so that a new price counts for
    # the past, too.
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    price_per_cpu_second: Annotated[float, Field(ge=0)] = 0.00001
    """Of this machine. Clouds take about 0.04 an hour for a virtual core."""
    price_per_1000_prompt_tokens: Annotated[float, Field(ge=0)] = 0.0
    """Of the remote generator's engine; what runs here costs CPU time, and no tokens."""
    price_per_1000_reply_tokens: Annotated[float, Field(ge=0)] = 0.0
    generation_budget: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """What generating may cost on one day (UTC), on all replicas together; then the bot asks back,
    or says that it cannot. 0: as much as it costs."""

    training_seconds: Annotated[float, Field(gt=0)] = 1800.0
    training_memory_mb: Annotated[int, Field(ge=512)] = 4096
    training_threads: Annotated[int, Field(ge=1)] = 1
    accept_suggestions: bool = False
    """Before each training, make examples of what users chose when they were asked back, without
    an operator's look. Whoever may chat can then teach: see docs/decisions/0027."""
    max_training_jobs_waiting: Annotated[int, Field(ge=1)] = 8

    max_body_bytes: Annotated[int, Field(ge=1024)] = 1_000_000

    # What one replica takes on; beyond it: 503 with Retry-After, before anything is stored.
    max_open_turns: Annotated[int, Field(ge=1)] = 256
    """Turns that are stored and not yet answered, being written or waiting for an earlier one.
    Instant answers are no such turns: they go on when there is no place left."""
    max_generating_turns: Annotated[int, Field(ge=1)] = 64
    """Of these, how many a generator may be writing; what is more would only wait inside it."""
    max_arriving_turns: Annotated[int, Field(ge=1)] = 256
    """Posted turns that are being read and stored, instant ones too."""
    max_waiting_writes: Annotated[int, Field(ge=1, le=1000)] = 500
    """No new turn while so many writes wait; the rest of the queue (1000) is for open turns."""
    max_requests: Annotated[int, Field(ge=1)] = 1000
    """Requests under way, of every kind. /livez and /readyz are answered always."""
    max_listeners: Annotated[int, Field(ge=1)] = 500
    """Of these, how many may wait for something to happen: event streams and `?wait=`."""
    max_waiting_body_mb: Annotated[int, Field(ge=1)] = 64
    """Bytes of request bodies that have arrived and are not yet answered, all together."""
    max_unfinished_requests: Annotated[int, Field(ge=1)] = 512
    """Connections that have not sent a whole request yet; one too many ends the oldest."""
    max_connections: Annotated[int, Field(ge=1)] = 4000
    """Open sockets, idle ones too; must be above max_requests. Beyond it uvicorn itself says
    503, in plain text."""

    # What one key, one guest or one address may ask for; beyond it: 429 with Retry-After.
    turns_per_minute_per_key: Annotated[int, Field(ge=1)] = 6000
    turns_per_minute_per_guest: Annotated[int, Field(ge=1)] = 60
    max_open_turns_per_key: Annotated[int, Field(ge=1)] = 128
    max_open_turns_per_guest: Annotated[int, Field(ge=1)] = 4
    max_requests_per_key: Annotated[int, Field(ge=1)] = 250
    max_requests_per_guest: Annotated[int, Field(ge=1)] = 16
    sessions_per_minute_per_address: Annotated[int, Field(ge=1)] = 300
    """New sessions of browsers, guests too; see trusted_proxies."""
    failed_sign_ins_per_minute_per_address: Annotated[int, Field(ge=1)] = 30

    # How long what takes time may take.
    heartbeat_seconds: Annotated[float, Field(gt=0, le=60)] = 15.0
    """A stream that has nothing to say says so this often, so that no proxy cuts it."""
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = 5.0
    """After SIGTERM: /readyz says no, everything is still served, until load balancers know.
    Not on SQLite, where no other replica could take the requests."""
    finish_seconds: Annotated[float, Field(ge=0, le=600)] = 10.0
    """Then open turns may still end; what is not done by then is handed to another replica."""
    header_seconds: Annotated[float, Field(gt=0)] = 10.0
    """A request whose headers have not arrived by then is cut off with 408."""
    body_seconds: Annotated[float, Field(gt=0)] = 30.0
    """The same for its body, from the end of the headers on."""
    read_seconds: Annotated[float, Field(gt=0)] = 30.0
    """A client that takes nothing of what is sent to it for so long is cut off."""

    retention_days: Annotated[float, Field(ge=0)] = 0
    """Conversations go this long after their last turn; 0 keeps them."""
    guest_retention_days: Annotated[float, Field(ge=0)] = 0
    """The same for guests, whose cookie opens theirs for 30 days; 0: as retention_days."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("secret", "other_secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < 32:
            raise ValueError("at least 32 characters; `openssl rand -hex 32` makes a good one")
        return secret

    @field_validator("max_wrong_instant_under_pressure")
    @classmethod
    def _looser(cls, share: float | None, info: ValidationInfo) -> float | None:
        if info.data.get("instant_threshold") is not None:
            raise ValueError(
                "there is no promise to loosen while TWOFOLD_INSTANT_THRESHOLD fixes the "
                "threshold; unset one of the two"
            )
        usual = info.data.get("max_wrong_instant", 0.0)
        if share is not None and share < usual:
            raise ValueError(f"must be at least TWOFOLD_MAX_WRONG_INSTANT, which is {usual:g}")
        return share

    @property
    def url(self) -> str:
        return self.database_url or f"sqlite:///{(self.data_dir / 'twofold.db').absolute()}"

    @property
    def promise(self) -> Promise:
        return Promise(self.max_wrong_instant, self.promise_confidence, self.least_in_scope)

    @property
    def promise_under_pressure(self) -> Promise | None:
        """None where it is the same."""
        looser = self.max_wrong_instant_under_pressure
        return None if looser is None else replace(self.promise, max_wrong_instant=looser)

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    @property
    def process_file(self) -> Path:
        """Holds the running server's process id; locked while it runs."""
        return self.data_dir / "server.pid"
