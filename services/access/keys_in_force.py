"""The keys of a serving process: those of its configuration and those of the store, which may change at any time.

Every process looks into the store every `REFRESH_S`, so a key that was made or revoked anywhere counts everywhere soon after. While the
store cannot be read, the last known keys stay in force; until the first successful read, no request is accepted without a key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

import gevent
from gevent.lock import BoundedSemaphore

from services.access.access import Access
from services.access.key import Key, default_name, new_secret, now, to_digest
from services.access.key_ring import KeyRing
from services.access.key_store import KeyStore
from services.access.rights import Rights
from services.errors import Conflict, InvalidRequest, KeyRevoked, StoreUnavailable

log = logging.getLogger("clinvk.keys")

REFRESH_S = 2.0


class KeysInForce:
    """One per process. Whenever the keys change, ``access`` gets their rights. `start` may be called again, also after a fork."""

    def __init__(self, access: Access, store: KeyStore) -> None:
        self._access = access
        self._store = store
        self._configured = KeyRing()
        self._stored: tuple[Key, ...] | None = None
        """None: the store was not read yet."""
        self._ring = KeyRing()
        self._in_force: frozenset[str] = frozenset()
        """The names of the keys that have not expired."""
        self._logged: frozenset[str] = frozenset()
        """What the log said last."""
        self._uses: dict[str, int] = {}
        """Name → latest use, not stored yet."""
        self._is_open = False
        self._is_local = True
        self._next_attempt_at = 0.0
        self._has_failed = False
        self._looking = BoundedSemaphore()
        """One look at a time: an older one that ends later would bring back what was revoked in between."""
        self._greenlet: gevent.Greenlet | None = None
        self.on_gone: Callable[[str], object] = lambda name: None
        """Called for each key that is no longer in force."""
        self.tell_others: Callable[[], object] = lambda: None
        """Has the other processes of this machine look into the store, and waits until they have, for a second at most."""

    def configure(self, configured: KeyRing, *, is_open: bool, is_local: bool) -> None:
        """``is_open``: no key is ever required (--no-auth). ``is_local``: the server listens on loopback alone; only such a server is
        open while there is no key."""
        self._configured, self._is_open, self._is_local = configured, is_open, is_local
        self._apply()

    def start(self) -> None:
        if self._greenlet is None or self._greenlet.dead:
            self.try_to_refresh()
            self._greenlet = gevent.spawn(self._repeat)

    @property
    def is_known(self) -> bool:
        """Whether the store has been read. If not, this tries to, at most every `REFRESH_S`."""
        if self._stored is None and monotonic() >= self._next_attempt_at:
            self.try_to_refresh()
        return self._stored is not None

    @property
    def are_required(self) -> bool:
        return not self._is_open and (bool(self._ring) or not self._is_local or not self.is_known)

    def find(self, presented: str) -> Key | None:
        """The key that ``presented`` belongs to, also if it has expired. Raises StoreUnavailable if that cannot be known yet."""
        key = self._ring.find(presented)
        if key is None:
            self.check_known()
            key = self._ring.find(presented)
        if key is not None and not key.is_expired:
            self._uses[key.name] = now()
        return key

    def check_known(self) -> None:
        """Raises StoreUnavailable."""
        if not self.is_known:
            raise StoreUnavailable("the API keys in the session store cannot be read now; see the server log", retry_after_s=REFRESH_S)

    def confirm(self, owner: str) -> None:
        """Raises KeyRevoked if ``owner`` is no longer in force, by a fresh look: another process may have made the key just now."""
        try:
            self._access.rights_of(owner)
        except KeyRevoked:
            self.refresh()
            self._access.rights_of(owner)

    def create(self, name: str | None, rights: Rights, expires_at: int | None = None) -> tuple[Key, str]:
        """A new key of the store, and its secret. Raises Conflict, and InvalidRequest if it would close the server for everybody."""
        self.refresh()
        if name in self._ring:
            raise Conflict(f"there is a key {name!r} already; choose another name", field="name", issue="name is taken")
        if not rights.is_admin and not self._ring.has_admin:
            message = "the first key must be an admin (role: admin): from then on a key is required, and only an admin can make more"
            raise InvalidRequest(message, field="role", issue="no admin")
        key, secret = make_key(name, rights, expires_at)
        self._store.add(key)
        self._renew()
        return key, secret

    def revoke(self, name: str) -> None:
        """Raises NotFound, and Conflict for a key that is not in the store."""
        if name in self._configured:
            message = f"the key {name!r} is part of the configuration: remove it there, and reload the server (SIGHUP) or restart it"
            raise Conflict(message, field="name", issue="configured key")
        self._store.revoke(name)
        self._renew()

    def listed(self) -> list[tuple[Key, int | None]]:
        """All keys, each with its latest use."""
        self.refresh()
        uses = self._store.uses() | self._uses
        return [(key, uses.get(key.name)) for key in self._ring]

    def refresh(self) -> None:
        """Look into the store now, and store the latest uses. Raises StoreUnavailable."""
        self._next_attempt_at = monotonic() + REFRESH_S
        with self._looking:
            stored = self._store.in_force()
            if stored is not self._stored or self._in_force != _in_force(self._ring):
                self._stored = stored
                self._apply()
        self._has_failed = False
        uses, self._uses = self._uses, {}
        if uses:
            try:
                self._store.note_uses(uses)
            except StoreUnavailable:
                self._uses = uses | self._uses
                raise

    def _renew(self) -> None:
        self.refresh()
        self.tell_others()

    def _apply(self) -> None:
        """A configured key wins over one of the store with the same name, which may have been made without knowledge of it."""
        doubles = [key.name for key in self._stored or () if key.name in self._configured]
        if doubles:
            log.error("API keys of the store are ignored, because the configuration has others with their names: %s", ", ".join(doubles))
        self._ring = KeyRing((*self._configured, *(key for key in self._stored or () if key.name not in self._configured)))
        before, self._in_force = self._in_force, _in_force(self._ring)
        self._access.replace({key.name: key.rights for key in self._ring if key.name in self._in_force})
        if self._stored is not None:
            if self._in_force != self._logged:
                self._logged = self._in_force
                log.info("API keys in force: %s", ", ".join(sorted(self._in_force)) or "none")
            for name in sorted(before - self._in_force):
                self._tell_gone(name)

    def _tell_gone(self, name: str) -> None:
        try:
            self.on_gone(name)
        except StoreUnavailable as error:  # its runs end when a worker takes them from the queue
            log.warning("the queued runs of %s could not be ended: %s", name, error.message)

    def _repeat(self) -> None:
        while True:
            gevent.sleep(REFRESH_S)
            self.try_to_refresh()

    def try_to_refresh(self) -> None:
        """The same; a failure is logged, once until it works again."""
        try:
            self.refresh()
        except StoreUnavailable as error:
            level = logging.DEBUG if self._has_failed else logging.ERROR
            self._has_failed = True
            log.log(level, "the API keys in the store cannot be read, so the last known ones stay in force: %s", error.message)
        except Exception:
            log.exception("the API keys could not be refreshed")


def make_key(name: str | None, rights: Rights, expires_at: int | None = None) -> tuple[Key, str]:
    """A key for the store, and its secret, which is nowhere else."""
    secret = new_secret()
    digest = to_digest(secret)
    key = Key(name=name or default_name(digest), digests=(digest,), rights=rights, source="store", created_at=now(), expires_at=expires_at)
    return key, secret


def _in_force(ring: KeyRing) -> frozenset[str]:
    return frozenset(key.name for key in ring if not key.is_expired)
