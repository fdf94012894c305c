"""The definition that a question reads stages under: of those known at a position the one asked for, or a draft."""

from collections.abc import Mapping
from typing import Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.conditions import Move, parse_moves
from dealtrail.domain.definitions import Definition, Stage, parse_stages
from dealtrail.domain.errors import error, nearest
from dealtrail.domain.pipelines import Pipeline
from dealtrail.domain.terms import Terms, parse_terms
from dealtrail.projections.question import Lens, When

_STAGES = msgspec.json.Decoder(tuple[Stage, ...])
_MOVES = msgspec.json.Decoder(dict[str, Move])
_TERMS = msgspec.json.Decoder(Terms)


class Draft(msgspec.Struct, frozen=True, omit_defaults=True):
    """A what-if definition, in the shapes of `redefine_pipeline`: it follows the latest version, recorded nowhere."""

    stages: Any
    moves: Any = None
    entry: Any = None
    back: Any = None
    skip: Any = None
    reasons: Any = None
    reason_moves: Any = None
    assignment: Any = None


def known_pipelines(c: SQLiteCursor, position: int) -> dict[str, Pipeline]:
    """Every pipeline as known at a log position, by key."""
    c.execute(
        "SELECT pipeline, version, position, recorded_at, occurred_at, name, stages, moves, terms FROM definition"
        " WHERE position <= ? ORDER BY pipeline, version",
        (position,),
    )
    found: dict[str, Pipeline] = {}
    for key, version, at_position, recorded_at, occurred_at, name, stages, moves, terms in c.fetchall():
        definition = Definition(
            *(version, occurred_at, recorded_at, at_position, _STAGES.decode(stages), _MOVES.decode(moves)),
            **_TERMS.decode(terms).said,
        )
        before = found[key].definitions if key in found else ()
        found[key] = Pipeline(key, name, (*before, definition))
    return found


def known_pipeline(c: SQLiteCursor, key: object, position: int) -> Pipeline:
    """One pipeline as known at a log position. Errors: unknown_pipeline."""
    return pipeline_among(known_pipelines(c, position), key)


def pipeline_among(known: Mapping[str, Pipeline], key: object) -> Pipeline:
    """The pipeline of a key. Errors: unknown_pipeline."""
    if not isinstance(key, str) or key not in known:
        raise error("unknown_pipeline", "pipeline", pipeline=key, nearest=nearest(key, known))
    return known[key]


def lens_of(known: Pipeline, given: object, at: When) -> Lens:
    """The version that a question asks for: `as_of`, `current`, a number or a draft.

    Errors: unknown_definition, cannot_restate, invalid_field, and those of a redefinition for a draft.
    """
    in_force = known.in_force(at.as_of)
    if isinstance(given, Mapping):
        given = as_draft(given)
    if isinstance(given, Draft):
        plain = {name: _plain(getattr(given, name), f"definition.{name}") for name in Draft.__struct_fields__}
        stages, moves = parse_stages(plain["stages"]), parse_moves(plain["moves"])
        terms = parse_terms(Draft(**plain))
        coordinates = (known.latest.version + 1, at.as_of, at.known_at, at.position)
        follows = known.followed_by(Definition(*coordinates, stages, moves, **terms.said)).checked()
        return Lens(follows, follows.latest, True)
    if given == "as_of":
        return Lens(known, in_force, False)
    if given == "current":
        return Lens(known, known.latest, False)
    if isinstance(given, bool) or not isinstance(given, int):
        raise error("invalid_field", "definition", why='give "as_of", "current", a number or a Draft')
    chosen = known.version(given)
    if chosen.version < in_force.version:
        raise error("cannot_restate", "definition", given=given, in_force=in_force.version)
    return Lens(known, chosen, False)


def as_draft(given: Mapping[str, Any]) -> Draft:
    """A draft from its JSON. Errors: missing_field, unknown_field."""
    if "stages" not in given:
        raise error("missing_field", "definition.stages")
    for name in given:
        if name not in Draft.__struct_fields__:
            raise error("unknown_field", f"definition.{name}"[:100])
    return Draft(**given)


def _plain(given: object, field: str) -> Any:
    """Stages, moves or terms as maps and lists, also where they were given as typed stages and rules."""
    try:
        return msgspec.to_builtins(given, order="deterministic")
    except (TypeError, ValueError, OverflowError, RecursionError) as trouble:
        raise error("invalid_field", field, why=str(trouble)) from None


def understood(given: object, lens: Lens) -> object:
    """A `definition` argument as the question repeats it: of a draft, the stages and moves as they are read."""
    if lens.draft:
        draft = Draft(lens.under.stages, lens.under.moves, **lens.under.said)
        return msgspec.json.decode(msgspec.json.encode(draft, order="deterministic"))
    return given


def stage_index(lens: Lens, stage: str) -> int:
    """The place of a stage in the version read under. Errors: unknown_stage."""
    if not lens.under.has(stage):
        raise lens.pipeline.unknown_stage(stage, lens.under)
    return lens.under.index(stage)
