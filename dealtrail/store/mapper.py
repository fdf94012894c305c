"""Events to bytes and back: a closed registry of versioned tags. An unknown tag is an error, never code."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dealtrail.domain.errors import error
from dealtrail.domain.events import (
    ActionCompleted,
    ActivityLogged,
    AttributesSet,
    DealAssigned,
    DealDisqualified,
    DealLost,
    DealMerged,
    DealOpened,
    DealReopened,
    DealTransferred,
    DealWon,
    Event,
    EventRetracted,
    ExpectedCloseChanged,
    ForgettingBegun,
    KeysConfigured,
    Personal,
    PipelineDefined,
    PipelineRedefined,
    StageEntered,
    SubjectForgotten,
    ValueChanged,
)

# The tag of each event as it is written today. A tag once written is read for ever; see `UPCASTERS`.
TAGS: dict[type[Any], str] = {
    DealOpened: "deal_opened.1",
    StageEntered: "stage_entered.1",
    ValueChanged: "value_changed.1",
    DealAssigned: "deal_assigned.1",
    ExpectedCloseChanged: "expected_close_changed.1",
    AttributesSet: "attributes_set.1",
    ActionCompleted: "action_completed.1",
    ActivityLogged: "activity_logged.1",
    DealWon: "deal_won.1",
    DealLost: "deal_lost.1",
    DealDisqualified: "deal_disqualified.1",
    DealReopened: "deal_reopened.1",
    DealTransferred: "deal_transferred.1",
    DealMerged: "deal_merged.1",
    EventRetracted: "event_retracted.1",
    PipelineDefined: "pipeline_defined.1",
    PipelineRedefined: "pipeline_redefined.1",
    KeysConfigured: "keys_configured.1",
    ForgettingBegun: "forgetting_begun.1",
    SubjectForgotten: "subject_forgotten.1",
}
Decoder = Callable[[bytes], Any]
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

# For each tag that is no longer written a plain function, from its fields, as JSON has them, to those of the version
# that came next.
UPCASTERS: dict[str, Upcaster] = {}

_TAG = re.compile(r"[a-z]+(_[a-z]+)*\.[1-9][0-9]*", re.ASCII)
_ENCODER = msgspec.json.Encoder()
_PERSONAL = msgspec.json.Decoder(Personal)
_FIELDS = msgspec.json.Decoder(dict[str, Any])


def decoders(tags: Mapping[type[Any], str], upcasters: Mapping[str, Upcaster]) -> dict[str, Decoder]:
    """How the bytes of each tag that was ever written are read: older versions through their upcasters, one by one."""
    found: dict[str, Decoder] = {tag: msgspec.json.Decoder(kind).decode for kind, tag in tags.items()}
    for tag in sorted(upcasters, key=_version, reverse=True):  # the newest first: the others lead to it
        found[tag] = _through(upcasters[tag], found[f"{tag.partition('.')[0]}.{_version(tag) + 1}"])
    return found


def _version(tag: str) -> int:
    return int(tag.partition(".")[2])


def _through(upcast: Upcaster, decode_next: Decoder) -> Decoder:
    def read(state: bytes) -> Any:
        fields = _FIELDS.decode(state)
        try:
            later = upcast(fields)
        except Exception as trouble:  # the event was damaged, in whatever way an upcaster happens to stumble over
            raise TypeError("it is no event of this version") from trouble
        return decode_next(_ENCODER.encode(later))

    return read


_DECODERS = decoders(TAGS, UPCASTERS)


def name_of(event: Event) -> str:
    """What an event is called outside, such as `stage_entered`."""
    return TAGS[type(event)].partition(".")[0]


def encode(event: Event) -> tuple[str, bytes]:
    """The tag and the bytes of an event."""
    return TAGS[type(event)], _ENCODER.encode(event)


def decode(tag: str, state: bytes, path: str = "the log") -> Event:
    """The event of a tag and bytes.

    Errors: newer_store, for a tag that this code does not know; damaged, for what is no tag, or bytes that are not its
    event.
    """
    try:
        event: Event = _DECODERS[tag](state)
    except (KeyError, TypeError, UnicodeDecodeError, RecursionError, msgspec.MsgspecError) as trouble:
        if tag not in _DECODERS and isinstance(tag, str) and _TAG.fullmatch(tag):
            raise error("newer_store", path=path, tag=tag, sign=f"it holds events tagged {tag!r}") from None
        raise error("damaged", path=path, why=f"an event tagged {tag!r} cannot be read") from trouble
    return event


def encode_personal(personal: Personal | None) -> bytes | None:
    """The personal part of an event as bytes, for a column of its own."""
    return None if personal is None else _ENCODER.encode(personal)


def decode_personal(stored: bytes | None, path: str = "the log") -> Personal | None:
    """The personal part of an event. Errors: damaged."""
    if stored is None:
        return None
    try:
        return _PERSONAL.decode(stored)
    except (TypeError, UnicodeDecodeError, RecursionError, msgspec.MsgspecError) as trouble:
        raise error("damaged", path=path, why="the personal part of an event cannot be read") from trouble
