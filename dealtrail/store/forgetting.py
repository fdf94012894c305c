"""Forgetting: a subject's key is destroyed, between an event that says so and one that says it is done.

Whatever breaks off in between is finished when the store is opened with its keys the next time.
"""

import logging

import msgspec

from dealtrail.domain.errors import error
from dealtrail.domain.events import ForgettingBegun, KeysConfigured, SubjectForgotten
from dealtrail.store import cipher, mapper
from dealtrail.store.keys import Keys
from dealtrail.store.log import Log
from dealtrail.store.reading import KEYS_STREAM, Reading
from dealtrail.store.sealing import Vault, plain_texts, texts_of

logger = logging.getLogger("dealtrail")


class Forgotten(msgspec.Struct, frozen=True):
    """What became of the personal texts about a subject.

    `position` is that of the event that says it is done. The texts of `erased` events cannot be read any more; those of
    `in_clear` events can, since they were recorded before keys were configured. `others` are subjects under which other
    texts of the same deals stand: a deal had another subject when they were recorded.
    """

    subject: str
    position: int
    erased: int
    in_clear: int
    others: list[str]


def use_keys(log: Log, keys: Keys, *, adopt: bool = False) -> None:
    """Encrypt what is recorded from here on, and finish what forgetting was broken off; see `Trail.open`.

    Errors: wrong_keys, not_installed, invalid_field; with `adopt` recorded_in_clear, where an event was recorded in
    clear before.
    """
    vault = vault_of(log, keys)
    configured = _configured(log) or _configure(log, vault, adopt)
    if adopt and configured.in_clear:
        raise error("recorded_in_clear", count=configured.in_clear)
    if not vault.opens(configured.proof):
        raise error("wrong_keys", path=log.path, why="these are not the keys of this log")
    log.vault = vault
    if configured.in_clear:
        logger.warning(
            "%s: %d events with personal texts were recorded in clear before keys were configured; they cannot be "
            "erased",
            log.path,
            configured.in_clear,
        )
    _finish_all(log, vault)


def vault_of(log: Log, keys: Keys) -> Vault:
    """The keys of a log. Errors: not_installed, invalid_field."""
    cipher.must_be_there()
    if not isinstance(keys, Keys):
        raise error("invalid_field", "keys", why="give a KeyFile, or an object with get, make and destroy")
    return Vault(log.id, keys)


def _configured(log: Log) -> KeysConfigured | None:
    with log.reading() as reading:
        return _configuration(reading)


def _configuration(reading: Reading) -> KeysConfigured | None:
    entries = reading.entries(KEYS_STREAM, reading.head().position)
    if not entries:
        return None
    event = entries[0].event
    assert isinstance(event, KeysConfigured)  # noqa: S101
    return event


def _configure(log: Log, vault: Vault, adopt: bool) -> KeysConfigured:
    with log.writing() as writing:
        configured = _configuration(writing.reading)  # another process may have done it meanwhile
        if configured is not None:
            return configured
        in_clear = sum(bool(plain_texts(part)) for part in writing.reading.personal_parts())
        if adopt and in_clear:
            raise error("recorded_in_clear", count=in_clear)
        configured = KeysConfigured(in_clear, vault.proof())
        writing.note(KEYS_STREAM, configured)
        return configured


def recorded_in_clear(log: Log) -> int | None:
    """How many events with personal texts were recorded before keys were configured; None where none are."""
    configured = _configured(log)
    return None if configured is None else configured.in_clear


def forget(log: Log, subject: str, by: str, reason: str, *, partly: bool) -> Forgotten:
    """Make the personal texts about a subject unreadable; see `Trail.forget`."""
    if log.vault is None:
        raise error("keys_missing", why="a subject is forgotten by destroying its key")
    with log.reading() as reading:
        about = reading.parts_about(subject)
        known = reading.is_forgotten(subject)
    if about is None and not known:
        raise error("unknown_subject", "subject", subject=subject)
    _, in_clear, _ = _sorted(about or [], subject)
    if in_clear and not partly and not known:
        raise error("recorded_in_clear", count=in_clear)
    with log.writing() as writing:
        if not writing.reading.is_forgotten(subject):
            writing.note(_stream(subject), ForgettingBegun(subject, reason), by)
    return _finish(log, log.vault, subject)


def _finish(log: Log, vault: Vault, subject: str) -> Forgotten:
    """Destroy the key of a subject of which the log says that it is to be forgotten, and record that it is done."""
    vault.destroy([subject])
    with log.reading() as reading:
        erased, in_clear, others = _sorted(reading.parts_about(subject) or [], subject)
    with log.writing() as writing:
        begun, *done = writing.reading.entries(_stream(subject), writing.position)
        if not done:
            done = [writing.note(_stream(subject), SubjectForgotten(subject, erased, in_clear), begun.by)]
    return Forgotten(subject, done[0].position, erased, in_clear, others)


def _finish_all(log: Log, vault: Vault) -> None:
    """Shred the keys of forgotten subjects that an old backup brought back, and finish what was broken off."""
    with log.reading() as reading:
        events = reading.lengths("subject")
    subjects = {stream.removeprefix("subject:"): count for stream, count in events.items()}
    returned = vault.destroy([subject for subject, count in subjects.items() if count > 1])
    if returned:
        logger.warning("%s: %d keys of forgotten subjects had come back; they are destroyed again", log.path, returned)
    for subject in [subject for subject, count in subjects.items() if count == 1]:
        _finish(log, vault, subject)
        logger.info("%s: forgetting subject %s had been broken off; it is done now", log.path, subject)


def _stream(subject: str) -> str:
    return f"subject:{subject}"


def _sorted(parts: list[bytes], subject: str) -> tuple[int, int, list[str]]:
    """Of the personal parts of a subject's deals: how many bear its seal, how many stand in clear, others' seals."""
    erased = in_clear = 0
    others: set[str] = set()
    for stored in parts:
        part = mapper.decode_personal(stored)
        assert part is not None  # noqa: S101
        subjects = {text.split(":", 3)[-1] for text in texts_of(part).values()}
        erased += subject in subjects
        in_clear += bool(plain_texts(part))
        others |= subjects - {subject}
    return erased, in_clear, sorted(others)
