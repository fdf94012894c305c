"""Ways: journeys as a definition judges them, with the stages visited in order and the steps that are not allowed."""

from collections.abc import Callable, Sequence

import msgspec

from dealtrail.domain.allowed import KINDS, Kind
from dealtrail.domain.definitions import Definition
from dealtrail.domain.errors import error, nearest
from dealtrail.projections.journeys import Journey
from dealtrail.projections.question import Facts

CLOSED = ("won", "lost", "disqualified")
OUTCOMES = (*CLOSED, "open", "transferred")

# A step of a deal: which list it goes against, from where (None: into the pipeline) to where, by place.
Step = tuple[Kind, int | None, int]


class Way(msgspec.Struct, frozen=True):
    """What became of the deals of a journey: the stages of their visits by place, and the steps not allowed."""

    journey: Journey
    visits: tuple[int, ...]
    against: tuple[Step, ...]

    @property
    def facts(self) -> Facts:
        """What filters and groups look at."""
        return self.journey.facts

    @property
    def status(self) -> str:
        """What became of them."""
        return self.journey.status

    @property
    def size(self) -> int:
        """How many deals went it."""
        return len(self.journey.deals)


def way_of(journey: Journey, under: Definition) -> Way:
    """The visits of a journey as they are read under a definition, and its steps that this does not allow.

    A move that stays in a stage as it is read is no step, nor is a reopening in the stage that the deal left from.
    """
    visits: list[int] = []
    against: list[Step] = []
    here: int | None = None
    keys = under.keys
    for mark, there in zip(journey.marks, journey.read, strict=True):
        if there is None:
            continue
        before = None if mark.kind in ("opened", "transferred") else here
        if there != before:
            found = under.against(keys, before, there)
            if found is not None:
                against.append((found[0], before, there))
        if mark.stage:
            if there != before or mark.kind != "moved":
                visits.append(there)
            here = there
    return Way(journey, tuple(visits), tuple(against))


# The deals behind each field of a path, or of all of them; of a share or a median, those that it is made of.
PATH_FIELDS: dict[str, Callable[[Way], bool]] = {
    "deals": lambda way: True,
    "share": lambda way: True,
    "conforming": lambda way: not way.against,
    "conforming_share": lambda way: not way.against,
    "won": lambda way: way.status == "won",
    "lost": lambda way: way.status == "lost",
    "disqualified": lambda way: way.status == "disqualified",
    "open": lambda way: way.status == "open",
    "transferred": lambda way: way.status == "transferred",
    "win_rate": lambda way: way.status == "won",
    "median_days_to_close": lambda way: way.status in CLOSED,
}
FIELDS = (*PATH_FIELDS, *KINDS, "loops")


def behind(
    under: Definition, field: str | None, stage: int | None, path: Sequence[str | None] | None
) -> Callable[[Way], bool]:
    """Whether a way stands behind a figure: of all deals or of the path named, of a kind of deviation, of loops.

    Errors: invalid_field.
    """
    field = field or "deals"
    if field not in FIELDS:
        raise error("invalid_field", "field", why=f"give one of {', '.join(FIELDS)}{nearest(field, FIELDS)}")
    if stage is not None and field != "loops":
        raise error("invalid_field", "stage", why="it goes with the field loops; give a path for other fields")
    if path is not None and field == "loops":
        raise error("invalid_field", "path", why="give a stage for the field loops")
    if path is not None and not _is_path(path):
        raise error("invalid_field", "path", why="give a list of the keys of stages, or of won or null")
    keys = [*under.keys, "won"]
    places = None if path is None else tuple(_place(keys, key) for key in path)
    if field == "loops":
        again = range(len(keys)) if stage is None else (stage,)
        return lambda way: any(way.visits.count(place) > 1 for place in again)
    if field in KINDS:
        if places is not None and len(places) != 2:
            raise error("invalid_field", "path", why="give the two ends of a deviation, from and to")
        return lambda way: any(step[0] == field and places in (None, step[1:]) for step in way.against)
    counts = PATH_FIELDS[field]
    return lambda way: places in (None, way.visits) and counts(way)


def _is_path(given: object) -> bool:
    return isinstance(given, list | tuple) and all(key is None or isinstance(key, str) for key in given)


def _place(keys: list[str], key: str | None) -> int | None:
    if key is not None and key not in keys:
        raise error("invalid_field", "path", why=f"{key} is no stage of it{nearest(key, keys)}")
    return None if key is None else keys.index(key)
