"""The mapping: which column means what, and what each activity of an event log does to its deal."""

import os
import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from dealtrail.domain.definitions import parse_stages
from dealtrail.domain.errors import error, nearest
from dealtrail.domain.money import CURRENCIES
from dealtrail.domain.terms import parse_terms
from dealtrail.domain.texts import Key, Word, parse_toml, shaped
from dealtrail.domain.times import zone

MAX_MAPPING_BYTES = 1_048_576

Column = Annotated[str, Meta(min_length=1)]
StageOf = dict[str, Key]


class PipelineTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pipeline that the deals are opened into; with `stages` it is defined where it does not exist."""

    key: Key
    name: Word | None = None
    stages: Any = None
    entry: Any = None
    back: Any = None
    skip: Any = None
    reasons: Any = None
    assignment: Any = None


class Columns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The names of the columns; `attributes` maps the name of an attribute to its column."""

    case: Column
    activity: Column
    time: Column
    by: Column | None = None
    value: Column | None = None
    currency: Column | None = None
    owner: Column | None = None
    source: Column | None = None
    subject: Column | None = None
    title: Column | None = None
    expected_close: Column | None = None
    reason: Column | None = None
    attributes: dict[Word, Column] = {}

    def used(self) -> Iterator[tuple[str, str]]:
        """Every field of the mapping that names a column, and the column."""
        for field in self.__struct_fields__:
            name = getattr(self, field)
            if isinstance(name, str):
                yield f"columns.{field}", name
        for attribute, name in self.attributes.items():
            yield f"columns.attributes.{attribute}", name


class Activities(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the activities do. `opens`, `enters` and `reopens` name the stage that each leads into."""

    opens: Annotated[StageOf, Meta(min_length=1)]
    enters: StageOf = {}
    reopens: StageOf = {}
    wins: tuple[str, ...] = ()
    loses: tuple[str, ...] = ()
    disqualifies: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    other: Literal["report", "ignore"] = "report"

    def effects(self) -> Iterator[tuple[str, str, str | None]]:
        """Every activity that is named, with what it does and the stage it leads into."""
        for effect in ("opens", "enters", "reopens"):
            for activity, stage in getattr(self, effect).items():
                yield activity, effect, stage
        for effect in ("wins", "loses", "disqualifies", "ignored"):
            for activity in getattr(self, effect):
                yield activity, effect, None


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to read an event log as the history of deals; see `docs/importing.md`."""

    pipeline: PipelineTable
    columns: Columns
    activities: Activities
    currency: str | None = None
    tz: str | None = None
    time_formats: tuple[str, ...] = ()
    encoding: str = "utf-8"
    delimiter: Annotated[str, Meta(pattern=r'^[^\r\n"]\Z')] = ","

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Mapping":
        """The mapping of a TOML file. Errors: unreadable_file, and as `parse`."""
        try:
            with open(path, "rb") as file:
                held = file.read(MAX_MAPPING_BYTES + 1)
            text = held[:MAX_MAPPING_BYTES].decode("utf-8-sig")
        except (OSError, ValueError) as trouble:
            why = getattr(trouble, "strerror", None) or "it is not UTF-8"
            raise error("unreadable_file", path=os.fspath(path), why=why) from None
        if len(held) > MAX_MAPPING_BYTES:
            raise error("unreadable_file", path=os.fspath(path), why=f"it is longer than {MAX_MAPPING_BYTES} bytes")
        return cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> "Mapping":
        """The mapping of a TOML text, checked as a whole.

        Errors: invalid_mapping, missing_field, unknown_field, invalid_field, invalid_key, invalid_tz,
        unknown_currency, and those of a definition.
        """
        try:
            plain = parse_toml(text, Decimal)
        except ValueError as trouble:
            raise error("invalid_mapping", why=str(trouble)) from None
        # Table by table, so that a mistyped word is compared with the words of its own table.
        for table, kind in (("pipeline", PipelineTable), ("columns", Columns), ("activities", Activities)):
            if isinstance(plain.get(table), dict):
                plain[table] = shaped(plain[table], kind, table)
        mapping: Mapping = shaped(plain, cls)
        mapping._check()
        return mapping

    def _check(self) -> None:
        if self.currency is not None and self.currency not in CURRENCIES:
            raise error("unknown_currency", "currency", given=self.currency)
        if self.columns.value and not (self.currency or self.columns.currency):
            raise error("missing_field", "currency")
        if self.tz is not None:
            zone(self.tz)
        for format_ in self.time_formats:
            why = _fault(format_)
            if why is not None:
                raise error("invalid_field", "time_formats", why=f"{format_}: {why}")
        if not _splits_lines(self.encoding):
            raise error("invalid_field", "encoding", why="give utf-8, cp1252 or another that keeps ASCII as it is")
        seen: dict[str, str] = {}
        for activity, effect, _ in self.activities.effects():
            if activity in seen:
                why = f"{activity} stands under {seen[activity]} too; an activity does one thing"
                raise error("invalid_field", f"activities.{effect}", why=why)
            seen[activity] = effect
        if self.pipeline.stages is not None:
            self.check_stages({stage.key for stage in parse_stages(self.pipeline.stages)})
            parse_terms(self.pipeline)

    def check_stages(self, known: set[str]) -> None:
        """Refuse a stage that the pipeline does not have. Errors: invalid_field."""
        for activity, effect, stage in self.activities.effects():
            if stage is not None and stage not in known:
                why = f"{stage} is no stage of pipeline {self.pipeline.key}{nearest(stage, sorted(known))}"
                raise error("invalid_field", f"activities.{effect}.{activity}", why=why)


def _fault(time_format: str) -> str | None:
    """What is wrong with a format of times."""
    if not re.search("%[YyGcx]", time_format):
        return "it has no year; put %Y into it"
    try:
        datetime.strptime("", time_format)  # noqa: DTZ007  only the format is tried
    except (ValueError, re.error) as trouble:
        # A sound format is told from a broken one by what the library says: an empty text is in no format.
        return None if "does not match" in str(trouble) else str(trouble)
    return None


def _splits_lines(encoding: str) -> bool:
    """Whether lines and quotes can be told in the bytes of an encoding, as in UTF-8 and most others."""
    ascii_text = '\r\n",;\t'
    try:
        return ascii_text.encode(encoding) == ascii_text.encode()
    except (LookupError, UnicodeError, ValueError):
        return False
