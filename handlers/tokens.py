"""Secrets: where a reference leads, and for how long what was found there is used."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures import TimeoutError as FutureTimeout
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

from handlers.deadline import Deadline
from handlers.logs import LOGGER
from handlers.secret_manager import SecretManager
from schemas.problem import SecretUnreachable, SecretUnusable
from schemas.redactor import Redactor
from schemas.reference import SecretReference

#: How long a fetch may take, in seconds: Secret Manager answers in tens of milliseconds, and a dead one is known
#: well before most senders hang up, at 10 s.
FETCH_SECONDS = 3.0
#: How long a new value is waited for where there is an old one, in seconds.
STALE_SECONDS = 1.0
#: How long an outage is taken for granted where there is a kept value, rather than asked after on every request.
OUTAGE_SECONDS = float(SecretUnreachable.RETRY_AFTER_SECONDS)


class Secret:
    """A secret's text, and where it came from: with the version, where there are versions."""

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source

    @cached_property
    def redactor(self) -> Redactor:
        """What takes it out of texts; made once, and gone with it."""
        return Redactor([self.text])


#: Why a secret can't be had.
Trouble: TypeAlias = SecretUnreachable | SecretUnusable

#: Fetches the bytes behind a reference within some seconds: the bytes, and where they came from.
#: Raises SecretUnreachable where another try may help, else SecretUnusable.
Fetch = Callable[[SecretReference, float], tuple[bytes, str]]


class _Kept(NamedTuple):
    secret: Secret
    until: float


class Secrets:
    """Fetches secrets and keeps them for `ttl` seconds.

    A fetch has a thread of its own: whoever wants the same secret meanwhile shares it, nobody waits for it longer
    than its own deadline allows, and one that hangs doesn't hold up those beside it.
    """

    def __init__(self, fetches: Mapping[str, Fetch], ttl: float) -> None:
        """`fetches` has what fetches each kind of reference."""
        self._fetches = fetches
        self._ttl = ttl
        self._lock = threading.Lock()
        self._kept: dict[SecretReference, _Kept] = {}
        self._under_way: dict[SecretReference, Future[Secret]] = {}

    def get(self, reference: SecretReference, deadline: Deadline) -> Secret:
        """The secret that `reference` names. Raises SecretUnreachable or SecretUnusable."""
        ((_, found),) = self.each([reference], deadline)
        if isinstance(found, Secret):
            return found
        raise found

    def renewed(self, reference: SecretReference, refused: Secret, deadline: Deadline) -> Secret:
        """The secret that `reference` names now, past the cache; it may still be the one that somebody `refused`.

        Raises SecretUnreachable or SecretUnusable.
        """
        # A fetch that is under way now may have read what was replaced before it came back.
        older = self._under_way.get(reference)
        while True:
            with self._lock:
                kept = self._kept.get(reference)
                if kept and kept.secret.text != refused.text:
                    return kept.secret
                fetch = self._under_way.get(reference) or self._begun(reference, kept)
            try:
                found = fetch.result(min(FETCH_SECONDS + 1, deadline.remaining() / 2))
            except FutureTimeout:
                raise _late(reference) from None
            if fetch is not older or found.text != refused.text:
                return found

    def each(
        self, references: Sequence[SecretReference], deadline: Deadline
    ) -> Iterator[tuple[SecretReference, Secret | Trouble]]:
        """The secrets that `references` name, or why one can't be had, as they come: those at hand first.

        While a secret's place can't be reached, a value past its time is still given. At the most half of what is
        left until `deadline` goes by here.
        """
        waiting: dict[Future[Secret], SecretReference] = {}
        for reference in references:
            found = self._at_hand(reference)
            if isinstance(found, Secret):
                yield reference, found
            else:
                waiting[found] = reference
        if not waiting:
            return
        all_kept = all(reference in self._kept for reference in waiting.values())
        patience = min(STALE_SECONDS if all_kept else FETCH_SECONDS + 1, deadline.remaining() / 2)
        try:
            for fetch in as_completed(waiting, timeout=patience):
                reference, error = waiting.pop(fetch), fetch.exception()
                if isinstance(error, SecretUnreachable):
                    yield reference, self._kept_or(reference, error)
                else:
                    yield reference, error if isinstance(error, SecretUnusable) else fetch.result()
        except FutureTimeout:
            for reference in waiting.values():
                yield reference, self._kept_or(reference, _late(reference))

    def _kept_or(self, reference: SecretReference, outage: SecretUnreachable) -> Secret | Trouble:
        kept = self._kept.get(reference)
        return kept.secret if kept else outage

    def _at_hand(self, reference: SecretReference) -> Secret | Future[Secret]:
        """The kept value, if it is still to be used, else the fetch that is under way now."""
        with self._lock:
            kept, fetch = self._kept.get(reference), self._under_way.get(reference)
            # While somebody else asks for a new value, the old one does.
            if kept and (fetch or time.monotonic() < kept.until):
                return kept.secret
            return fetch or self._begun(reference, kept)

    def _begun(self, reference: SecretReference, kept: _Kept | None) -> Future[Secret]:
        """A fetch, which has begun now; to be called with the lock held."""
        fetch = self._under_way[reference] = Future()
        try:
            threading.Thread(target=self._fetch, args=(reference, kept, fetch), daemon=True).start()
        except RuntimeError:
            del self._under_way[reference]
            raise SecretUnreachable(f"{reference.label} can't be had: there is no thread to spare.") from None
        return fetch

    def _fetch(self, reference: SecretReference, kept: _Kept | None, promise: Future[Secret]) -> None:
        """Fetches a secret and keeps it; whatever happens, `promise` is kept too."""
        found: Secret | Trouble
        ttl = self._ttl
        try:
            found = _secret(reference, *self._fetches[reference.kind](reference, FETCH_SECONDS))
        except SecretUnreachable as outage:
            LOGGER.warning("%s", outage)
            ttl, found = OUTAGE_SECONDS, outage
        except SecretUnusable as refusal:
            found = refusal
        except Exception as fault:
            LOGGER.error("%s can't be had, for no reason that was foreseen.", reference.label, exc_info=fault)
            found = SecretUnusable(f"{reference.label} can't be had; the function's log says why.")
        # In an outage, what was fetched before is used on, if there is such.
        keep = kept.secret if kept and isinstance(found, SecretUnreachable) else found
        with self._lock:
            del self._under_way[reference]
            if isinstance(keep, Secret):
                self._kept[reference] = _Kept(keep, time.monotonic() + ttl)
            else:
                self._kept.pop(reference, None)
        if isinstance(found, Secret):
            promise.set_result(found)
        else:
            promise.set_exception(found)


def _late(reference: SecretReference) -> SecretUnreachable:
    return SecretUnreachable(f"{reference.label} can't be had: its place has not answered in time.")


def fetches(environ: Mapping[str, str], emulator: str | None) -> Mapping[str, Fetch]:
    """What fetches each kind of reference; `emulator` is SECRET_MANAGER_EMULATOR_HOST."""

    def from_environment(reference: SecretReference, _seconds: float) -> tuple[bytes, str]:
        return environ.get(reference.name, "").encode(), str(reference)

    return {"env": from_environment, "file": _from_file, "manager": SecretManager(emulator).fetch}


def _from_file(reference: SecretReference, _seconds: float) -> tuple[bytes, str]:
    """Read again when its time is up: mounted secrets are replaced in place."""
    try:
        return Path(reference.name).read_bytes(), str(reference)
    except OSError as error:
        raise SecretUnusable(f"{reference.label} can't be had: {error.strerror}.") from None


def _secret(reference: SecretReference, raw: bytes, source: str) -> Secret:
    """The secret in `raw`, without the line end that `echo` puts behind it. Raises SecretUnusable."""
    try:
        text = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretUnusable(f"{reference.label} is damaged: it isn't UTF-8 text.") from None
    if not text.strip():
        raise SecretUnusable(f"{reference.label} is empty.")
    return Secret(text, source)
