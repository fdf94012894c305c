"""What a caller may ask: one typed action each, and the door through which all of them come in, once checked."""

from collections.abc import Mapping
from datetime import date, datetime
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dealtrail.domain.attributes import AttributeMap, check_attributes, parse_attributes
from dealtrail.domain.errors import error, nearest
from dealtrail.domain.events import Personal
from dealtrail.domain.money import Money, money
from dealtrail.domain.texts import DealId, Key, Prose, Reason, Word, plain, plain_name, shaped
from dealtrail.domain.times import instant, moment, parse_date, parse_time

Version = Annotated[int, Meta(ge=0, le=2**53)]
PersonalMap = Annotated[dict[Word, Prose], Meta(max_length=200)]


class Action(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="action", tag="action"):
    """What every action may carry: when it happened, by whom, an idempotency key, and the version expected."""

    at: datetime | None = None
    by: Word | None = None
    id: DealId | None = None
    expected_version: Version | None = None


class DealAction(Action, frozen=True, kw_only=True, tag="deal_action"):
    """An action on a deal."""

    deal: DealId
    personal: PersonalMap | None = None


class PipelineAction(Action, frozen=True, kw_only=True, tag="pipeline_action"):
    """A definition of a pipeline as a whole: its stages, in order, and its terms."""

    pipeline: Key
    stages: Any
    entry: Any = None
    back: Any = None
    skip: Any = None
    reasons: Any = None
    assignment: Any = None


class DefinePipeline(PipelineAction, frozen=True, kw_only=True, tag="define_pipeline"):
    """Define a new pipeline."""

    name: Word | None = None


class RedefinePipeline(PipelineAction, frozen=True, kw_only=True, tag="redefine_pipeline"):
    """Record the next definition of a pipeline, and what becomes of the old stages and reasons."""

    moves: Any = None
    reason_moves: Any = None


class OpenDeal(DealAction, frozen=True, kw_only=True, tag="open_deal"):
    """Open a deal in a pipeline; without `deal` it is called as its `id`, or gets one made."""

    deal: DealId | None = None  # type: ignore[assignment]  # made where it is not given
    pipeline: Key
    stage: Key | None = None
    subject: DealId | None = None
    title: Prose | None = None
    value: Money | None = None
    owner: Word | None = None
    source: Word | None = None
    expected_close: date | None = None
    attributes: AttributeMap | None = None


class MoveDeal(DealAction, frozen=True, kw_only=True, tag="move_deal"):
    """Move a deal to another stage, forward or back."""

    stage: Key


class ChangeValue(DealAction, frozen=True, kw_only=True, tag="change_value"):
    """Give a deal another value, or none."""

    value: Money | None


class AssignDeal(DealAction, frozen=True, kw_only=True, tag="assign_deal"):
    """Give a deal another owner, or none."""

    owner: Word | None


class ChangeExpectedClose(DealAction, frozen=True, kw_only=True, tag="change_expected_close"):
    """Change the date on which a deal should close, or take it away."""

    expected_close: date | None


class SetAttributes(DealAction, frozen=True, kw_only=True, tag="set_attributes"):
    """Set attributes of a deal; null removes one, those not named stay."""

    attributes: AttributeMap


class CompleteAction(DealAction, frozen=True, kw_only=True, tag="complete_action"):
    """Complete a sales-process action of the deal's current stage."""

    key: Key


class LogActivity(DealAction, frozen=True, kw_only=True, tag="log_activity"):
    """Log a call, a mail, a meeting."""

    kind: Word
    note: Prose | None = None


class WinDeal(DealAction, frozen=True, kw_only=True, tag="win_deal"):
    """Win a deal, perhaps at another value."""

    value: Money | None = None


class LoseDeal(DealAction, frozen=True, kw_only=True, tag="lose_deal"):
    """Lose a deal."""

    reason: Reason | None = None


class DisqualifyDeal(DealAction, frozen=True, kw_only=True, tag="disqualify_deal"):
    """Say that a deal turned out not to be one."""

    reason: Reason | None = None


class ReopenDeal(DealAction, frozen=True, kw_only=True, tag="reopen_deal"):
    """Open a closed deal again, in the stage that it left from or another."""

    stage: Key | None = None


class TransferDeal(DealAction, frozen=True, kw_only=True, tag="transfer_deal"):
    """Put a deal into another pipeline."""

    pipeline: Key
    stage: Key | None = None


class MergeDeal(DealAction, frozen=True, kw_only=True, tag="merge_deal"):
    """Say that a deal is the same as another, which stays."""

    into: DealId


class Retract(DealAction, frozen=True, kw_only=True, tag="retract"):
    """Take back an event of a deal that was recorded by mistake."""

    version: Version
    reason: Reason


class Amend(DealAction, frozen=True, kw_only=True, tag="amend"):
    """Correct an event of a deal: the fields named in `changes` replace its own; `at` moves it in time.

    As JSON the changes stand among the other fields: `{"action": "amend", "deal": "D-1", "version": 2, "owner": "bo"}`.
    """

    version: Version
    changes: dict[str, Any] = {}


AnyAction = (
    DefinePipeline
    | RedefinePipeline
    | OpenDeal
    | MoveDeal
    | ChangeValue
    | AssignDeal
    | ChangeExpectedClose
    | SetAttributes
    | CompleteAction
    | LogActivity
    | WinDeal
    | LoseDeal
    | DisqualifyDeal
    | ReopenDeal
    | TransferDeal
    | MergeDeal
    | Retract
    | Amend
)
KINDS: dict[str, type[Action]] = {kind.__struct_config__.tag: kind for kind in AnyAction.__args__}
PERSONAL = ("title", "note", "personal")


def parse_action(given: Mapping[str, Any] | Action) -> Any:
    """An action as it came in (a dict or a typed one), checked once: from here on it is trusted.

    Errors: unknown_action, and those of each field (see `docs/reference.md`).
    """
    if isinstance(given, Action):
        given = _flat(given)
    if not isinstance(given, Mapping):
        raise error("invalid_field", None, why="an action is an object such as {'action': 'open_deal', ...}")
    verb = plain(given.get("action"), "action")
    if verb is None:
        raise error("missing_field", "action")
    kind = KINDS.get(verb) if isinstance(verb, str) else None
    if kind is None:
        raise error("unknown_action", "action", given=verb, nearest=nearest(verb, KINDS))
    fields: dict[str, Any] = {}
    for field, value in given.items():
        name = plain_name(field, None)
        parse = _PARSERS.get(name)
        if parse is not None and value is not None and (name in kind.__struct_fields__ or kind is Amend):
            fields[name] = parse(value, name)
        else:
            fields[name] = value if type(value) is str else plain(value, name)
    action: Action = shaped(_with_changes(fields) if kind is Amend else fields, kind)
    check_attributes(getattr(action, "attributes", None))
    return action


def parse_like(kind: type[Action], fields: dict[str, Any]) -> Any:
    """An action that an amendment made from an event: of a known kind, from trusted and named fields together."""
    return parse_action(fields | {"action": kind.__struct_config__.tag})


def personal_part(action: Any, erased: Mapping[str, Any] | None = None) -> Personal | None:
    """The personal part of an action, apart from the rest; `erased` are fields that nobody can read any more."""
    part = Personal(*(getattr(action, field, None) or None for field in PERSONAL))
    if erased:
        part = msgspec.structs.replace(part, **erased)
    return part if part != Personal() else None


def request_digest(action: Action) -> bytes:
    """What an action asks, as a digest: the same content has the same one.

    `expected_version` is a condition, not content. Null is absence, but in an amendment, where it takes a field away.
    Of the personal part only the names of its fields are digested: a digest of a short text would let it be guessed
    after it was forgotten.
    """
    changed = action.changes if isinstance(action, Amend) else {}
    content = {
        name: value
        for name, value in _flat(action).items()
        if name != "expected_version" and (value is not None or name in changed)
    }
    named = sorted((name, content.pop(name) is None) for name in PERSONAL if name in content)
    if action.at is not None:
        content["at"] = instant(action.at)
    try:
        return sha256(msgspec.json.encode([content, named], order="sorted")).digest()
    except UnicodeEncodeError:  # what its shape leaves open, as lists of stages, is looked at after this
        raise error("invalid_field", None, why="a text in it holds half a character") from None


def _flat(action: Action) -> dict[str, Any]:
    """A typed action in the shape that it has as JSON."""
    flat: dict[str, Any] = {"action": action.__struct_config__.tag} | msgspec.structs.asdict(action)
    if isinstance(action, Amend):
        if action.personal is None:  # not said; that it be taken away stands among the changes
            del flat["personal"]
        flat |= flat.pop("changes")
    return flat


def _with_changes(fields: dict[str, Any]) -> dict[str, Any]:
    """The flat shape of an amendment as its struct: the fields of the event that it amends under `changes`."""
    own = {"action", "deal", "version", "at", "by", "id", "expected_version"}
    changes = {name: value for name, value in fields.items() if name not in own}
    return {name: value for name, value in fields.items() if name in own} | {"changes": changes}


def _time(given: object, field: str) -> datetime:
    return moment(parse_time(given, field))


_PARSERS: dict[str, Any] = {
    "at": _time,
    "value": money,
    "expected_close": parse_date,
    "attributes": parse_attributes,
}
