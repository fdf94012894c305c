"""What happened: the events of deals and pipelines. Their tags and fields are the file format, for ever.

An event holds what is its own; what every event has (when, by whom, where in the log) stands beside it in an `Entry`.
A new field must be optional, None by default, and left out where it is None (`omit_defaults`), so that the bytes of an
event that has it not stay what they were; a changed meaning needs a new version of the tag and an upcaster in the
store's mapper.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

import msgspec

from dealtrail.domain.assignment import Assigned
from dealtrail.domain.conditions import Attributes, Move, Scalar
from dealtrail.domain.definitions import Stage
from dealtrail.domain.money import Money
from dealtrail.domain.terms import Terms
from dealtrail.domain.times import Instant


class DealOpened(msgspec.Struct, frozen=True, omit_defaults=True):
    """A deal was opened into a stage."""

    pipeline: str
    definition: int
    stage: str
    subject: str
    value: Money | None
    owner: str | None
    source: str | None
    expected_close: date | None
    attributes: Attributes
    assigned: Assigned | None = None


class StageEntered(msgspec.Struct, frozen=True):
    """A deal was moved into a stage."""

    pipeline: str
    definition: int
    stage: str


class ValueChanged(msgspec.Struct, frozen=True):
    """A deal's value became another, or none."""

    value: Money | None


class DealAssigned(msgspec.Struct, frozen=True):
    """A deal got another owner, or none."""

    owner: str | None


class ExpectedCloseChanged(msgspec.Struct, frozen=True):
    """The date on which a deal should close became another, or none."""

    expected_close: date | None


class AttributesSet(msgspec.Struct, frozen=True):
    """Attributes were set; null removed one."""

    attributes: Mapping[str, Scalar | None]


class ActionCompleted(msgspec.Struct, frozen=True):
    """A sales-process action of the current stage was completed."""

    pipeline: str
    definition: int
    key: str


class ActivityLogged(msgspec.Struct, frozen=True):
    """Something was done for a deal: a call, a mail, a meeting."""

    kind: str


class DealWon(msgspec.Struct, frozen=True):
    """A deal was won; a value of None leaves the value as it was."""

    pipeline: str
    definition: int
    value: Money | None


class DealLost(msgspec.Struct, frozen=True, omit_defaults=True):
    """A deal was lost. With a reason it names the definition that may list it; the oldest events do not."""

    reason: str | None
    pipeline: str | None = None
    definition: int | None = None


class DealDisqualified(msgspec.Struct, frozen=True, omit_defaults=True):
    """A deal turned out not to be one. It names a definition where a loss does."""

    reason: str | None
    pipeline: str | None = None
    definition: int | None = None


class DealReopened(msgspec.Struct, frozen=True):
    """A closed deal was opened again, into a stage."""

    pipeline: str
    definition: int
    stage: str


class DealTransferred(msgspec.Struct, frozen=True):
    """A deal was put into a stage of another pipeline."""

    pipeline: str
    definition: int
    stage: str


class DealMerged(msgspec.Struct, frozen=True):
    """A deal turned out to be the same as another, which stays."""

    into: str


class EventRetracted(msgspec.Struct, frozen=True):
    """An earlier event of the deal no longer counts."""

    version: int
    reason: str | None


class PipelineDefined(Terms, frozen=True, omit_defaults=True):
    """A pipeline got its first definition."""

    name: str
    stages: tuple[Stage, ...]


class PipelineRedefined(Terms, frozen=True, omit_defaults=True):
    """A pipeline got its next definition."""

    stages: tuple[Stage, ...]
    moves: Mapping[str, Move]


class KeysConfigured(msgspec.Struct, frozen=True):
    """From here on the log holds no personal text in clear; `in_clear` events before it did. `proof` fits its keys."""

    in_clear: int
    proof: str


class ForgettingBegun(msgspec.Struct, frozen=True):
    """Somebody decided that a subject is forgotten: from here on nobody reads its personal texts."""

    subject: str
    reason: str


class SubjectForgotten(msgspec.Struct, frozen=True):
    """The key of a subject is destroyed: the texts of `erased` events are gone; `in_clear` were never encrypted."""

    subject: str
    erased: int
    in_clear: int


DealEvent = (
    DealOpened
    | StageEntered
    | ValueChanged
    | DealAssigned
    | ExpectedCloseChanged
    | AttributesSet
    | ActionCompleted
    | ActivityLogged
    | DealWon
    | DealLost
    | DealDisqualified
    | DealReopened
    | DealTransferred
    | DealMerged
    | EventRetracted
)
PipelineEvent = PipelineDefined | PipelineRedefined
StoreEvent = KeysConfigured | ForgettingBegun | SubjectForgotten
Event = DealEvent | PipelineEvent | StoreEvent

# No text that comes in begins with it, and no name in a map is empty: what a store sealed cannot be mistaken.
SEALED = "\0"


def is_sealed(text: str | Mapping[str, str] | None) -> bool:
    """Whether a personal text stands as the store sealed it: begun with NUL, or in a map under no name."""
    return text is not None and (text.startswith(SEALED) if isinstance(text, str) else "" in text)


class Personal(msgspec.Struct, frozen=True, omit_defaults=True):
    """The personal part of an event: no report, filter, group, rule or condition reads it."""

    title: str | None = None
    note: str | None = None
    personal: Mapping[str, str] | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An event with its coordinates in the log.

    `stream` is `deal:ID` or `pipeline:KEY`, of what concerns the store itself `subject:ID` or `log:keys`; `version`
    counts the events of the stream; `amends` is the version that this event replaces; `request` tells one content of an
    action from another, where the action had an `id`. `clock_behind_us` is by how many microseconds the clock was
    behind `recorded_at`, 0 where it was not.
    """

    stream: str
    version: int
    position: int
    recorded_at: Instant
    occurred_at: Instant
    event: Event
    by: str | None = None
    id: str | None = None
    request: bytes | None = None
    amends: int | None = None
    personal: Personal | None = None
    clock_behind_us: int = 0


def fields(event: Event) -> dict[str, Any]:
    """The fields of an event by name, as they are; one that is left out where it is None, as it is stored."""
    always = len(event.__struct_fields__) - len(event.__struct_defaults__)
    return {
        name: value
        for place, (name, value) in enumerate(msgspec.structs.asdict(event).items())
        if place < always or value is not None
    }
