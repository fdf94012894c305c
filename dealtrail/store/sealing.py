"""Sealing: personal texts are encrypted with the key of their subject on their way in, and opened to be shown.

A sealed text says how it was made: NUL, the version of its event, the key's fingerprint, the ciphertext in base64, the
subject. It is stored where the text would be: in the log and, the very same, in every read model. It can be read with
that key alone, and in that place alone: log, deal, version and field are bound to it.
"""

import logging
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dealtrail.domain.actions import PERSONAL
from dealtrail.domain.errors import DealtrailError, error
from dealtrail.domain.events import SEALED, Entry, Personal, is_sealed
from dealtrail.store import cipher
from dealtrail.store.keys import Keys

if TYPE_CHECKING:
    from dealtrail.store.log import Log
    from dealtrail.store.reading import Reading

logger = logging.getLogger("dealtrail")

ERASED = "[erased]"  # the subject is forgotten
ENCRYPTED = "[encrypted]"  # there is no key here
_OF_LOG = ""  # the subject, which no deal can have, whose key tells whether keys are those of a log
_CACHED_KEYS = 50_000
_NAMED = msgspec.json.Decoder(dict[str, str])


class Sealed(NamedTuple):
    """The parts of a sealed text."""

    version: int
    fingerprint: str
    encrypted: bytes
    subject: str

    @classmethod
    def parsed(cls, text: str) -> "Sealed":
        """From the text. Errors: ValueError."""
        mark, version, fingerprint, encrypted, subject = text[:1], *text[1:].split(":", 3)
        if mark != SEALED:
            raise ValueError("it is not sealed")
        return cls(int(version), fingerprint, b64decode(encrypted, validate=True), subject)

    def text(self) -> str:
        """The text that is stored."""
        return f"{SEALED}{self.version}:{self.fingerprint}:{b64encode(self.encrypted).decode()}:{self.subject}"


class Vault:
    """The keys of one log. Those that were asked for are kept at hand: whether one may be used the log says."""

    def __init__(self, log: str, keys: Keys) -> None:
        self._log = log
        self._keys = keys
        self._at_hand: dict[str, bytes] = {}
        self._missed: set[str] = set()

    def fetch(self, subjects: Iterable[str]) -> None:
        """Have the keys of some subjects at hand, those that there are, all of them in one go."""
        missing = sorted(set(subjects) - self._at_hand.keys())
        if missing:
            self._keep(self._keys.get(self._log, missing))

    def key(self, subject: str) -> bytes | None:
        """The key of a subject; None where there is none."""
        return self._at_hand.get(subject) or self._keep(self._keys.get(self._log, [subject])).get(subject)

    def make(self, subjects: Iterable[str]) -> dict[str, bytes]:
        """The keys of some subjects, durable from here on."""
        wanted = set(subjects)
        made = {subject: key for subject in wanted if (key := self._at_hand.get(subject))}
        missing = sorted(wanted - made.keys())
        return made | (self._keep(self._keys.make(self._log, missing)) if missing else {})

    def destroy(self, subjects: list[str]) -> int:
        """Destroy the keys of some subjects, for good; how many there were."""
        destroyed = self._keys.destroy(self._log, subjects) if subjects else 0
        for subject in subjects:
            self.drop(subject)
        return destroyed

    def _keep(self, keys: dict[str, bytes]) -> dict[str, bytes]:
        if len(self._at_hand) > _CACHED_KEYS:
            self._at_hand = {}
        self._at_hand |= keys
        return keys

    def drop(self, subject: str) -> None:
        """Have a key no longer at hand."""
        self._at_hand.pop(subject, None)

    def passing(self) -> "Vault":
        """The same keys for what is recorded nowhere: those that it makes are kept nowhere."""
        return Vault(self._log, _Passing(self._keys))

    def proof(self) -> str:
        """A text that only the keys of this log open."""
        return self._seal(self.make([_OF_LOG])[_OF_LOG], _OF_LOG, "log", 1, "proof", "")

    def opens(self, proof: str) -> bool:
        """Whether these are the keys with which a proof was made."""
        key = self.key(_OF_LOG)
        try:
            return key is not None and self._open(key, Sealed.parsed(proof), "log", "proof") is not None
        except ValueError:
            return False

    def sealed(self, entries: list[tuple[str, Entry]]) -> list[Personal]:
        """The personal parts of entries, given with their subjects, each text sealed that is not so already."""
        keys = self.make(subject for subject, _ in entries)
        parts = []
        for subject, entry in entries:
            assert entry.personal is not None  # noqa: S101
            deal, key = entry.stream.removeprefix("deal:"), keys[subject]
            texts = plain_texts(entry.personal)
            new = {name: self._seal(key, subject, deal, entry.version, name, text) for name, text in texts.items()}
            parts.append(_with_texts(entry.personal, new))
        return parts

    def _seal(self, key: bytes, subject: str, deal: str, version: int, field: str, text: str) -> str:
        encrypted = cipher.encrypt(key, text.encode(), self._bound(subject, deal, version, field))
        return Sealed(version, _fingerprint(key), encrypted, subject).text()

    def opened(self, sealed: Sealed, deal: str, field: str) -> str | None:
        """The text, or None where its key is gone. Errors: ValueError, where it is not what was sealed."""
        key = self.key(sealed.subject)
        if key is None or _fingerprint(key) != sealed.fingerprint:
            self.drop(sealed.subject)
            if sealed.subject not in self._missed:
                self._missed.add(sealed.subject)
                logger.warning("there is no key of subject %s, which is not forgotten", sealed.subject)
            return None
        text = self._open(key, sealed, deal, field)
        if text is None:
            raise ValueError("it was changed, or belongs elsewhere")
        return text

    def _open(self, key: bytes, sealed: Sealed, deal: str, field: str) -> str | None:
        plain = cipher.decrypt(key, sealed.encrypted, self._bound(sealed.subject, deal, sealed.version, field))
        return None if plain is None else plain.decode()

    def _bound(self, subject: str, deal: str, version: int, field: str) -> bytes:
        return msgspec.json.encode([self._log, subject, deal, version, field])


class _Passing(Keys):
    """The keys of a rehearsal: those that there are, and in memory alone those that it needs beside."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._made: dict[str, bytes] = {}

    def get(self, log: str, subjects: Collection[str]) -> dict[str, bytes]:
        found = {subject: self._made[subject] for subject in subjects if subject in self._made}
        return found | self._keys.get(log, [subject for subject in subjects if subject not in found])

    def make(self, log: str, subjects: Collection[str]) -> dict[str, bytes]:
        found = self.get(log, subjects)
        self._made |= {subject: cipher.new_key() for subject in subjects if subject not in found}
        return found | {subject: self._made[subject] for subject in subjects if subject not in found}

    def destroy(self, log: str, subjects: Collection[str]) -> int:
        raise NotImplementedError("a rehearsal forgets nobody")


def _fingerprint(key: bytes) -> str:
    """Tells one random key from another, and nothing about it."""
    return sha256(b"fingerprint of a key:" + key).hexdigest()[:16]


def texts_of(part: Personal) -> dict[str, str]:
    """The sealed texts of a personal part by field."""
    texts = {name: getattr(part, name) for name in PERSONAL if is_sealed(getattr(part, name))}
    return {name: text if isinstance(text, str) else text[""] for name, text in texts.items()}


def plain_texts(part: Personal) -> dict[str, str]:
    """The plain texts of a personal part by field; the map as JSON."""
    texts = {
        name: getattr(part, name)
        for name in PERSONAL
        if getattr(part, name) is not None and not is_sealed(getattr(part, name))
    }
    return {
        name: text if isinstance(text, str) else msgspec.json.encode(dict(text)).decode()
        for name, text in texts.items()
    }


def _with_texts(part: Personal, new: dict[str, str]) -> Personal:
    """A personal part with other texts for some fields; a map that is sealed has one, without a name."""
    return msgspec.structs.replace(part, **{n: {"": text} if n == "personal" else text for n, text in new.items()})


class Opening:
    """Sealed texts as one look at the log lets them be read."""

    def __init__(self, reading: "Reading", vault: Vault | None) -> None:
        self._reading = reading
        self._vault = vault

    def fetch(self, parts: Iterable[Personal | None]) -> None:
        """Have the keys of many personal parts at hand, before they are opened one by one."""
        if self._vault is None:
            return
        texts = [text for part in parts if part is not None for text in texts_of(part).values()]
        subjects = {text.split(":", 3)[-1] for text in texts}
        self._vault.fetch(subject for subject in subjects if not self._reading.is_forgotten(subject))

    def readable(self, deal: str, part: Personal, version: int | None = None) -> Personal:
        """A personal part with every text opened whose subject is not forgotten; those of others stay sealed.

        Errors: keys_missing, damaged (also where a text is not that of `version`).
        """
        opened: dict[str, Any] = {}
        for field, sealed in self._sealed(deal, part):
            if not self._is_forgotten(sealed.subject):
                opened[field] = self._plain(sealed, deal, field, version)
                if opened[field] is None:
                    raise error("keys_missing", why=f"there is no key of subject {sealed.subject}")
        return msgspec.structs.replace(part, **opened) if opened else part

    def shown(self, deal: str, part: Personal, version: int | None = None) -> Personal:
        """A personal part for people: `[erased]` for what is forgotten, `[encrypted]` where there is no key here.

        Errors: damaged.
        """
        shown: dict[str, Any] = {}
        for field, sealed in self._sealed(deal, part):
            forgotten = self._is_forgotten(sealed.subject)
            plain = None if forgotten else self._plain(sealed, deal, field, version)
            if plain is None:
                mark = ERASED if forgotten else ENCRYPTED
                plain = {mark: mark} if field == "personal" else mark
            shown[field] = plain
        return msgspec.structs.replace(part, **shown) if shown else part

    def _sealed(self, deal: str, part: Personal) -> Iterator[tuple[str, Sealed]]:
        for field, text in texts_of(part).items():
            try:
                yield field, Sealed.parsed(text)
            except ValueError as trouble:
                raise self._damaged(deal, trouble) from trouble

    def _is_forgotten(self, subject: str) -> bool:
        forgotten = self._reading.is_forgotten(subject)
        if forgotten and self._vault is not None:
            self._vault.drop(subject)  # another process may have destroyed it
        return forgotten

    def _plain(self, sealed: Sealed, deal: str, field: str, version: int | None) -> Any:
        """A text or map, None where there is no key of it."""
        if version not in (None, sealed.version):
            raise self._damaged(deal, f"it is that of event {sealed.version}")
        if self._vault is None:
            return None
        try:
            plain = self._vault.opened(sealed, deal, field)
        except ValueError as trouble:
            raise self._damaged(deal, trouble) from trouble
        return _NAMED.decode(plain) if plain is not None and field == "personal" else plain

    def _damaged(self, deal: str, why: object) -> DealtrailError:
        return error("damaged", path=self._reading.path, why=f"a personal text of deal {deal} cannot be read: {why}")


def shown(log: "Log", entry: Entry) -> Entry:
    """An entry with its personal part as it may be shown at this moment."""
    if entry.personal is None or not texts_of(entry.personal):
        return entry
    with log.reading() as reading:
        return _shown(Opening(reading, log.vault), entry)


def all_shown(log: "Log", reading: "Reading", entries: list[Entry]) -> list[Entry]:
    """Entries with their personal parts as one look at the log lets them be shown."""
    opening = Opening(reading, log.vault)
    opening.fetch(entry.personal for entry in entries)
    return [_shown(opening, entry) for entry in entries]


def _shown(opening: Opening, entry: Entry) -> Entry:
    if entry.personal is None:
        return entry
    part = opening.shown(entry.stream.removeprefix("deal:"), entry.personal, entry.version)
    return msgspec.structs.replace(entry, personal=part)
