"""A PostgreSQL server that goes away for a while (a restart, an update) is waited for, as a board is.

Whoever asked the store something gets an answer when the server is back. What was asked is asked again as a whole:
every method of the store is one transaction, or several that do no harm when they come twice.
"""

import functools
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from devicelab.errors import StoreError
from devicelab.store.engine import StoreChangedError

PATIENCE_S = 300.0
"""How long a server that went away is waited for, unless somebody says otherwise (``Store.patience_s``)."""

# A file that its owner writes to is read between two of his transactions.
_CHANGED_S = 20.0
_PAUSE_S = 0.2
# A server that ends a session, or says that it comes up, is there, also for who only opens a store.
_TELLS, _OPENING_S = "57P", 20.0
_LONGEST_PAUSE_S = 5.0
# Going down, crashed, coming up, no connection left, and what breaks a connection (PostgreSQL, appendix A).
_AWAY = ("57P01", "57P02", "57P03", "53300", "08")
_LOG = logging.getLogger(__name__)
_inside = threading.local()

_T = TypeVar("_T")


def away(error: StoreError) -> bool:
    """The server is not there, or not yet."""
    cause = error.__cause__
    if not isinstance(cause, DBAPIError):
        return False
    if state := _state(cause):
        return state.startswith(_AWAY)
    return cause.connection_invalidated or type(cause.orig).__name__ in {"OperationalError", "InterfaceError"}


def _tells(error: StoreError) -> bool:
    """The server itself says that it goes down or comes up."""
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and _state(cause).startswith(_TELLS)


def _state(cause: DBAPIError) -> str:
    """The SQLSTATE of the server, nothing where none answered."""
    return str(getattr(cause.orig, "sqlstate", "") or "")


def patient(method: Callable[..., _T]) -> Callable[..., _T]:
    """The method, asked again while the server is away, for ``self.patience_s`` seconds in all."""

    @functools.wraps(method)
    def asked(self: Any, *args: Any, **options: Any) -> _T:
        if getattr(_inside, "memo", None) is not None:
            return method(self, *args, **options)
        _inside.memo = {}
        try:
            return _again_and_again(lambda: method(self, *args, **options), self)
        finally:
            _inside.memo = None

    return asked


def opening(ask: Callable[[], _T], store: Any) -> _T:
    """What a store is opened with, asked again for a moment while the server says that it goes down or comes up.

    A server that is not there is said at once.
    """
    return _again_and_again(ask, store, waited_for=_tells, most_s=_OPENING_S)


def memo() -> dict[str, Any]:
    """What a method notes in case it is asked again: its transaction may have been done, and only its answer lost."""
    noted: dict[str, Any] | None = getattr(_inside, "memo", None)
    return {} if noted is None else noted


def _again_and_again(
    ask: Callable[[], _T], store: Any, *, waited_for: Callable[[StoreError], bool] = away, most_s: float = math.inf
) -> _T:
    since: float | None = None
    pause_s = _PAUSE_S
    while True:
        try:
            return ask()
        except StoreError as error:
            changed = isinstance(error, StoreChangedError)
            if not changed and not (isinstance(store._place, URL) and waited_for(error)):  # noqa: SLF001 - one of ours
                raise
            now = time.monotonic()
            if since is None:
                since = now
                if not changed:
                    _LOG.warning("%s; it is waited for", error.message)
            patience_s = min(store.patience_s, _CHANGED_S if changed else most_s)
            if now - since >= patience_s:  # read anew: who wants to end makes it short
                raise
            time.sleep(min(pause_s, max(0.0, since + patience_s - now)))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.5)


def patiently(kind: type[_T]) -> type[_T]:
    """Make every public method of a store's class patient."""
    for name in dir(kind):
        method = getattr(kind, name)
        if not name.startswith("_") and name not in _OWN and callable(method) and not isinstance(method, type):
            if isinstance(_plain(kind, name), classmethod | staticmethod | property):
                continue
            setattr(kind, name, patient(method))
    return kind


_OWN = frozenset({"open", "close"})


def _plain(kind: type, name: str) -> object:
    """As it stands in the class that has it."""
    return next(one.__dict__[name] for one in kind.__mro__ if name in one.__dict__)
