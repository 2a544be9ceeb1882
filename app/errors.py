"""What can go wrong on purpose. `api/errors.py` maps each class to an HTTP status."""


class TwofoldError(Exception):
    """`code` is part of the API; the message is written for its reader and never echoes input."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidInput(TwofoldError):
    code = "invalid_input"


class NotAuthenticated(TwofoldError):
    code = "not_authenticated"


class NotAllowed(TwofoldError):
    code = "not_allowed"


class NotFound(TwofoldError):
    """Absent, or somebody else's: the two are never told apart."""

    code = "not_found"

    def __init__(self, what: str) -> None:
        super().__init__(f"there is no such {what}")


class Conflict(TwofoldError):
    code = "conflict"


class IdempotencyMismatch(TwofoldError):
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used for another request; draw a new one")


class Overloaded(TwofoldError):
    """Our capacity: nobody could have it done now. Nothing of the request was stored."""

    code = "overloaded"

    def __init__(
        self, message: str, *, code: str | None = None, retry_after_seconds: float = 1.0
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after_seconds = retry_after_seconds


class QuotaExceeded(Overloaded):
    """Your share: this key, guest or address asks for more than one of them may."""

    code = "quota_exceeded"


class Unavailable(TwofoldError):
    """Something outside this process, most often the database, does not answer."""

    code = "unavailable"


class LostFence(TwofoldError):
    """Another replica, or a cancellation, has taken this turn away from us."""

    code = "lost_fence"


class ConfigurationError(TwofoldError):
    """The server cannot start like this; the message names the remedy."""

    code = "configuration"
