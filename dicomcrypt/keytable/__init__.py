"""Keys of a service or archive, encrypted in a database (docs/keytable.md)."""

from .store import SqliteStore, Store
from .table import KeyTable
from .unlocked import KeyInfo, UnlockedKeyTable

__all__ = ["KeyInfo", "KeyTable", "SqliteStore", "Store", "UnlockedKeyTable"]
