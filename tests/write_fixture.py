"""The store that a release leaves behind, and what it reported: run `python tests/write_fixture.py` at a release.

`fixtures/VERSION.db` is a store with every kind of event, `VERSION.json` its head and the digests of some reports on
it. Every later code must open it, find it sound, and report the same. What belongs to a release is never written again.
"""

import json
import re
import sys
from datetime import timedelta
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from unittest import mock

from every_kind import PAST, forget_somebody
from given import Clock, on

from dealtrail import Trail
from dealtrail.store import mapper
from dealtrail.store.log import Log

FIXTURES = Path(__file__).parent / "fixtures"
CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"
# When everything was recorded; the questions are asked of a day in the past, known at one in the past.
END = on(110)
_MOMENTS = [(on(3), END), (on(9), END), (on(50), END), (on(50), on(100, 6)), (END, END)]
_DRAFT = {
    "stages": [{"key": "all", "name": "All", "probability": "0.25", "rots_after_days": 9}],
    "moves": {"lead": "all", "won-over": "all"},
}


def released():
    """The versions that were released, by the change log."""
    return set(re.findall(r"^## \[(\d[^\]]*)\]", CHANGELOG.read_text(encoding="utf-8"), re.MULTILINE))


def questions():
    """Some questions to three reports, without a default left to the code."""
    for pipeline in ("b2b", "care", "strict", "leads"):
        for as_of, known_at in _MOMENTS:
            if pipeline != "b2b" and known_at != END:
                continue  # it was not known yet
            moments = {"pipeline": pipeline, "as_of": as_of.isoformat(), "known_at": known_at.isoformat(), "tz": "UTC"}
            for group_by in ([], ["owner", "attributes.vip"]):
                more = {"definition": "as_of", "group_by": group_by, "where": {}}
                yield {"report": "pipeline", **moments, **more}
                yield {"report": "closing", **moments, **more}
                yield {"report": "funnel", **moments, **more, "cohort": "2026", "within": 30, "fiscal_year_start": 4}
    moments = {"pipeline": "b2b", "as_of": on(50).isoformat(), "known_at": END.isoformat(), "tz": "Europe/Amsterdam"}
    for definition in ("current", 2, _DRAFT):
        more = {"definition": definition, "group_by": ["currency"], "where": {"source": None}}
        yield {"report": "pipeline", **moments, **more}
        yield {"report": "funnel", **moments, **more, "cohort": "2026-Q1", "within": None, "fiscal_year_start": 1}


def asked(trail, question):
    """What a store reports, to its digests."""
    arguments = dict(question)
    report = getattr(trail, f"{arguments.pop('report')}_report")(**arguments)
    return {"question": question, "content_digest": report.content_digest, "digest": report.digest}


def write(folder, name):
    """Write both files; the same at every run of the same code."""
    clock = Clock(on(100))
    log = Log(":memory:", clock, new_id=sha256(name.encode()).hexdigest()[:32])
    with Trail(log) as trail:
        for number, step in enumerate(PAST):
            # An hour later each time, but once the clock is put back.
            clock.now = on(100) + timedelta(hours=number if number != 6 else -24)
            trail.record_all(step)
        with mock.patch("dealtrail.store.cipher.urandom", bytes):
            forget_somebody(trail)
        clock.now = END
        with log.reading() as reading:
            tags = {row[3] for row in reading.rows(0, 2**53, 2**53)}
        assert tags == set(mapper.TAGS.values()), "a kind of event is missing in every_kind.py"
        told = {"version": name, "head": str(trail.head()), "reports": [asked(trail, one) for one in questions()]}
        trail.backup(folder / f"{name}.db", overwrite=True)
    (folder / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    current = version("dealtrail")
    if current in released():
        sys.exit(f"{current} was released: its fixture is never written again")
    write(FIXTURES, current)
