"""What the read model's rows hold: states and paths to columns and back."""

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from dealtrail.domain.conditions import Attributes, Basis, Scalar
from dealtrail.domain.deal import State, Visit
from dealtrail.domain.money import Money, millionths
from dealtrail.domain.times import Instant
from dealtrail.projections.fold import FOREVER, Folding, Mark, Path, Period
from dealtrail.projections.schema import STATE

# Lengths in business time are classed by the seconds' power of two, those in positions by the position's.
_LENGTH_SHIFT = 20
LENGTH_CLASSES = range((FOREVER >> _LENGTH_SHIFT).bit_length() + 1)

# By pipeline, status, definition, stage and currency: what all periods of a cell have in common.
Cell = tuple[str, str, int, str, str | None]

_encode = msgspec.json.Encoder(order="sorted").encode
_ATTRIBUTES = msgspec.json.Decoder(dict[str, Scalar])
_INTEGERS = msgspec.json.Decoder(list[int])
_MARKS = msgspec.json.Decoder(tuple[Mark, ...])
_BASES = msgspec.json.Decoder(list[tuple[str | None, str | None, str | None, str | None, dict[str, Scalar]] | None])
_REASONS = msgspec.json.Decoder(list[str | None])
_STRINGS = msgspec.json.Decoder(list[str])


def length_class(length: Instant) -> int:
    """The class of a length in business time: no length of class n is as long as `class_reach(n)`."""
    return (length >> _LENGTH_SHIFT).bit_length()


def class_reach(number: int) -> Instant:
    """What every length in business time of a class stays below."""
    return min(1 << (number + _LENGTH_SHIFT), FOREVER * 2 - 1)


class StateColumns:
    """The columns of one state after another, in the order of `STATE`.

    States that follow one another have most in common, as the very same objects: of those the columns are kept.
    """

    def __init__(self, number_of: Callable[[Cell], int]) -> None:
        self._number_of = number_of
        self._visit: Visit | None = None
        self._status = ""
        self._cell = 0
        self._value: Money | None = None
        self._amount: tuple[str | None, int, int] = (None, 0, 0)
        self._attributes: Attributes = {}
        self._encoded = "{}"
        self._close: date | None = None
        self._closing: str | None = None

    def of(self, state: State) -> tuple[Any, ...]:
        """The columns of a state."""
        visit, value = state.visit, state.value
        if visit is not self._visit or value is not self._value or state.status != self._status:
            currency = None if value is None else value.currency
            self._cell = self._number_of((visit.pipeline, state.status, visit.definition, visit.stage, currency))
            self._visit, self._status = visit, state.status
        if value is not self._value:
            self._amount = (None, 0, 0) if value is None else _amount(value.amount)
            self._value = value
        if state.attributes is not self._attributes:
            self._attributes, self._encoded = state.attributes, _encode(state.attributes).decode()
        if state.expected_close is not self._close:
            self._close = state.expected_close
            self._closing = None if self._close is None else self._close.isoformat()
        amount, high, low = self._amount
        return (
            self._cell,
            visit.at,
            high,
            low,
            visit.root,
            amount,
            state.owner,
            state.source,
            self._encoded,
            self._closing,
            _encode(sorted(state.completed)).decode() if state.completed else "[]",
            state.opened_at,
            state.closed_at,
            state.reason,
            state.merged_into,
            state.subject,
        )

    def of_period(self, deal: int, period: Period) -> tuple[Any, ...]:
        """The columns of a period that ended, or that a correction took back."""
        from_at, to_at, known_from, end_known = period.from_at, period.to_at, period.known_from, period.end_known
        return (
            deal,
            from_at,
            to_at,
            known_from,
            end_known,
            period.known_to,
            length_class(to_at - from_at),
            (end_known - known_from).bit_length(),
            *self.of(period.state),
        )


def state_of(columns: Sequence[Any], cell: Cell, begun: Any, basis: Basis) -> State:
    """The state from its columns, and what the path knows of its visit."""
    row = dict(zip(STATE, columns, strict=True))
    pipeline, status, definition, stage, currency = cell
    return State(
        status=status,  # type: ignore[arg-type]
        visit=Visit(pipeline, definition, stage, row["visit_at"], row["visit_root"], begun, basis),
        opened_at=row["opened_at"],
        subject=row["subject"],
        value=money_of(row["amount"], currency),
        owner=row["owner"],
        source=row["source"],
        expected_close=None if row["expected_close"] is None else date.fromisoformat(row["expected_close"]),
        attributes=attributes_of(row["attributes"]),
        completed=tuple(_STRINGS.decode(row["completed"])),
        closed_at=row["closed_at"],
        reason=row["reason"],
        merged_into=row["merged_into"],
    )


def path_columns(path: Path, shape: int) -> tuple[Any, ...]:
    """The columns of a path: opened_into, opened_at, path_from, last_known, shape, ats, knowns, bases, reasons.

    Times are counted from the opening; a visit's basis is null where it is that of the visit before.
    """
    bases: list[Any] = []
    before: Basis | None = None
    for basis in path.bases:
        bases.append(None if before is not None and _same_basis(before, basis) else _basis(basis))
        before = basis
    return (
        path.marks[0].pipeline,
        path.opened_at,
        path.known_from,
        path.knowns[-1],
        shape,
        _encode([at - path.opened_at for at in path.ats]).decode(),
        _encode(path.knowns).decode(),
        _encode(bases).decode(),
        _encode(path.reasons).decode() if path.reasons else "[]",
    )


def path_of(columns: Sequence[Any], marks: tuple[Mark, ...]) -> Path:
    """A path from its columns, in the order of `path_columns`."""
    _, opened_at, known_from, _, _, ats, knowns, bases, reasons = columns
    return Path(
        known_from=known_from,
        opened_at=opened_at,
        marks=list(marks),
        ats=[opened_at + at for at in integers_of(ats)],
        knowns=integers_of(knowns),
        bases=bases_of(bases),
        reasons=reasons_of(reasons),
    )


def restored(row: Sequence[Any], cell: Cell, marks: tuple[Mark, ...]) -> Folding:
    """A deal as it was left when its row was written; `row` begins with last_at, last_root, from_at, known_from."""
    last_at, last_root, from_at, known_from, *rest = row
    columns, (opened_into, *path) = rest[: len(STATE)], rest[len(STATE) :]
    opened_at = columns[STATE.index("opened_at")]
    folding = Folding()
    folding.path = path_of((opened_into, opened_at, *path), marks)
    begun = next(mark.kind for mark in reversed(marks) if mark.stage)
    state = state_of(columns, cell, begun, folding.path.bases[-1])
    folding.last = (last_at, last_root)
    folding.open = Period(from_at, FOREVER, known_from, known_from, FOREVER, state)
    return folding


def marks_text(marks: Sequence[Mark]) -> str:
    """The marks of a path as text, by which equal ones are known."""
    return _encode(marks).decode()


@lru_cache(maxsize=50_000)
def marks_of(text: str) -> tuple[Mark, ...]:
    """The marks of a path from their text."""
    return _MARKS.decode(text)


integers_of = _INTEGERS.decode
reasons_of = _REASONS.decode


def bases_of(text: str) -> list[Basis]:
    """For each visit the deal just after it began."""
    bases: list[Basis] = []
    for given in _BASES.decode(text):
        if given is None:
            bases.append(bases[-1])
        else:
            amount, currency, owner, source, attributes = given
            bases.append(Basis(money_of(amount, currency), owner, source, attributes))
    return bases


def money_of(amount: str | None, currency: str | None) -> Money | None:
    """Money from its columns."""
    return None if amount is None or currency is None else Money(Decimal(amount), currency)


def attributes_of(text: str) -> Attributes:
    """Attributes from their column."""
    return {} if text == "{}" else _ATTRIBUTES.decode(text)


def _same_basis(one: Basis, other: Basis) -> bool:
    if one.value is other.value and one.attributes is other.attributes:
        return one.owner == other.owner and one.source == other.source
    return bool(_basis(one) == _basis(other))


def _basis(basis: Basis) -> Any:
    value = basis.value
    amount, currency = (None, None) if value is None else (format(value.amount, "f"), value.currency)
    # Encoded apart: 1, 1.0 and true are equal to Python, and are not the same attribute.
    return amount, currency, basis.owner, basis.source, msgspec.Raw(_encode(basis.attributes))


def _amount(amount: Decimal) -> tuple[str, int, int]:
    return format(amount, "f"), *divmod(millionths(amount), 10**9)
