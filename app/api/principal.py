"""Who is asking."""

from dataclasses import dataclass

from app.database.api_keys import Scope


@dataclass(frozen=True, slots=True)
class Principal:
    owner: str
    """Whose data this is; stands in the WHERE of every query for it."""
    scopes: frozenset[Scope]
    name: str
    key_id: str | None = None

    @property
    def is_guest(self) -> bool:
        return self.key_id is None
