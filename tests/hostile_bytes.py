"""Bytes that come in: what reads them, something sensible to begin with, and how it is spoilt.

A target takes bytes and may raise a `DealtrailError` and nothing else; one that catches it itself returns the code.
Atheris feeds the same targets, where it is there.
"""

import gzip
import io
import json
import os
from pathlib import Path

import click
from click.testing import CliRunner

from dealtrail import Trail, parse_json
from dealtrail.cli.app import app
from dealtrail.cli.importing import json_lines
from dealtrail.domain.actions import parse_action
from dealtrail.domain.errors import SENTENCES
from dealtrail.importing import Mapping, import_rows
from dealtrail.store import mapper

MAPPING = """
currency = "EUR"
tz = "Europe/Amsterdam"
time_formats = ["%d-%m-%Y %H:%M"]
[pipeline]
key = "b2b"
name = "B2B"
stages = [{key = "lead", name = "Lead", probability = 0.1}, {key = "offer", name = "Offer", probability = "0.5"}]
[columns]
case = "case"
activity = "what"
time = "when"
value = "worth"
attributes = {seats = "seats"}
[activities]
opens = {"made" = "lead"}
enters = {"offered" = "offer"}
wins = ["signed"]
ignored = ["mailed"]
"""
CSV = (
    b'case,what,when,worth,seats\r\nD-1,made,05-01-2026 10:00,"1200.50",5\r\nD-1,offered,06-01-2026 10:00,,\r\n'
    b"D-2,made,07-01-2026 10:00,x,\r\nD-2,mailed,,,\nD-1,signed,08-01-2026 10:00,1300,\n"
)
STAGES = [{"key": "lead", "name": "Lead", "probability": "0.1"}, {"key": "offer", "name": "Offer", "probability": 0.5}]
DEFINE = {"action": "define_pipeline", "pipeline": "b2b", "stages": STAGES, "at": "2026-01-01T00:00:00Z"}
OPEN = {
    "action": "open_deal",
    "deal": "D-1",
    "pipeline": "b2b",
    "at": "2026-01-05T10:00:00Z",
    "owner": "anna",
    "value": {"amount": "1200.50", "currency": "EUR"},
    "attributes": {"seats": 5, "rate": 1.5},
    "title": "A\u00e9",
}
MOVE = {"action": "move_deal", "deal": "D-1", "stage": "offer", "at": "2026-01-06T10:00:00Z"}
LINES = b"".join(json.dumps(action).encode() + b"\n" for action in (DEFINE, OPEN, MOVE))
HISTORY = b"".join(
    json.dumps(line).encode() + b"\n"
    for line in (
        {"dealtrail": "history", "lines": 1},
        *(action | {"recorded_at": action["at"]} for action in (DEFINE, OPEN, MOVE)),
        {"dealtrail": "end", "count": 3},
    )
)
_TAGS = sorted(mapper.TAGS.values())
_GOLDEN = Path(__file__).parent / "golden"


def json_text(data):
    """An action as JSON, through the door of texts and that of actions."""
    parse_action(parse_json(data))


def json_string(data):
    """The same, as a text that may hold halves of characters."""
    parse_action(parse_json(data.decode("utf-8", "surrogateescape")))


def event(data):
    """A stored event; the first byte chooses its tag."""
    tag = _TAGS[data[0] % len(_TAGS)] if data else ""
    mapper.encode(mapper.decode(tag, data[1:]))


def personal(data):
    """A stored personal part."""
    mapper.encode_personal(mapper.decode_personal(data))


def mapping(data):
    """A mapping, as a file and as a text."""
    Path("mapping.toml").write_bytes(data)
    Mapping.load("mapping.toml")


def restored(data):
    """A log or a history as JSON Lines, of which a store is founded."""
    Path("given.jsonl").write_bytes(data)
    try:
        Trail.restore("restored.db", ["given.jsonl"])
    finally:
        for path in Path().glob("restored.db*"):
            path.unlink()


class Targets:
    """What reads bytes, with the stores and files that some of it needs. Works in the folder of the process."""

    def __init__(self):
        self.trail = Trail.open(":memory:")
        self.mapping = Mapping.parse(MAPPING)
        self.runner = CliRunner()
        with Trail.open("sales.db") as trail:
            trail.record_all([DEFINE, OPEN, MOVE])
            trail.backup("export.jsonl", since=0)
        Path("stages.json").write_text(json.dumps({"stages": STAGES}), encoding="utf-8")
        Path("events.csv").write_bytes(CSV)
        Path("map.toml").write_text(MAPPING, encoding="utf-8")
        Path("actions.jsonl").write_bytes(LINES)
        self.all = {
            "json": json_text,
            "json_string": json_string,
            "event": event,
            "personal": personal,
            "mapping": mapping,
            "csv": self.csv,
            "lines": self.lines,
            "restored": restored,
            "command": self.command,
        }

    def csv(self, data):
        """An event log as a CSV file, plain or packed."""
        import_rows(self.trail, self.mapping, io.BytesIO(data), dry_run=True)

    def lines(self, data):
        """JSON Lines, as the command reads them."""
        code = None
        for outcome in self.trail.record_each((line.action for line in json_lines(io.BytesIO(data))), dry_run=True):
            if outcome.refused is not None:
                str(outcome.refused).encode()
                code = outcome.refused.code
        return code

    def command(self, data):
        """A command line, its words parted by NUL; the last is what comes in from stdin."""
        *words, stdin = data.split(b"\0")
        words = [os.fsdecode(word) for word in words]
        if not _is_safe(words):
            return "not run"
        result = self.runner.invoke(app, ["--db", "sales.db", *words], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code in (0, 1, 2), result.exit_code
        code = result.stderr.removeprefix("Error: ").partition(":")[0]
        return code if code in SENTENCES else ("accepted", "refused", "wrong usage")[result.exit_code]


# It makes a year of a sales team out of nothing, which takes seconds; no more of its words are input.
_SLOW = {"demo"}


def _is_safe(words):
    """Whether a command line stays in its folder: some commands write the files that they are told to."""
    if _SLOW & set(words):
        return False
    return not any(".." in word or "/" in word or word.startswith(":") for word in words)


def corpus(target):
    """Something sensible for each target to begin with."""
    if target in ("json", "json_string"):
        return [json.dumps(action).encode() for action in (DEFINE, OPEN, MOVE)] + [b"{}", b"[1e5, null]"]
    if target == "event":
        golden = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(_GOLDEN.glob("*.json"))]
        states = [(one["tag"], variant["state"].encode()) for one in golden for variant in one["variants"]]
        return [bytes([_TAGS.index(tag)]) + state for tag, state in states if tag in _TAGS]
    if target == "personal":
        return [b'{"title":"A","note":"b","personal":{"contact":"Ada"}}', b"{}"]
    if target == "mapping":
        return [MAPPING.encode()]
    if target == "csv":
        return [CSV, CSV.replace(b",", b";"), b"\xef\xbb\xbf" + CSV, gzip.compress(CSV, mtime=0)]
    if target == "lines":
        return [LINES, gzip.compress(LINES, mtime=0), LINES.replace(b"\n", b"\r\n")]
    if target == "restored":
        return [Path("export.jsonl").read_bytes(), HISTORY]
    return [b"\0".join(words) for words in _commands()]


_WORDS = {
    "pipeline": b"b2b",
    "deal": b"D-1",
    "name": b"b2b",
    "file": b"actions.jsonl",
    "definition": b"stages.json",
    "mapping": b"map.toml",
    "cases": b"events.csv",
    "draft": b"stages.json",
    "cohort": b"2026",
    "shell": b"bash",
    "where": b"owner=anna",
    "group": b"owner=anna",
    "group_by": b"owner",
    "as_of": b"2026-02-01",
    "limit": b"5",
    "tz": b"Europe/Amsterdam",
    "known_at": b"2026-02-01",
    "within": b"30",
    "at": b"2026-02-01T10:00:00Z",
}


def _commands():
    """Each command with the least that it needs, and once with each of its options: whatever commands there are."""
    for name, command in sorted(app.commands.items()):
        needed, options = [], []
        for parameter in command.params:
            word = _WORDS.get(parameter.name or "", b"1")
            if isinstance(parameter, click.Argument):
                needed += [word]
            elif parameter.required:
                needed += [parameter.opts[0].encode(), word]
            elif isinstance(parameter, click.Option):
                kind = parameter.type
                word = kind.choices[-1].encode() if isinstance(kind, click.Choice) else word
                options.append([parameter.opts[0].encode(), *([] if parameter.is_flag else [word])])
        yield from ([name.encode(), *needed, *option, LINES] for option in [[], *options])
    yield [b"record", b"move_deal", b"deal=D-1", b"stage=lead", b"attributes.seats=5", b"value=5:EUR", b""]
    yield [b"record", json.dumps(MOVE).encode(), b""]
    yield [b"import", b"-", b"--dry-run", LINES]
    yield [b"import", b"-", b"--map", b"map.toml", CSV]


_PIECES = [
    *(b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"\x1b[2J", b"\r", b"\n", b'"'),
    *(b"{", b"}", b"[", b"]", b",", b":", b"=", b"-", b".", b"'", b"\\", b"\\ud800", b"\\u0000", b"%", b"%Y", b"\t"),
    *(b"null", b"true", b"NaN", b"Infinity", b"1e999", b"-0", b"0.1", b"1_0", b"inf", b"9" * 400, b"1" * 5000),
    *(b"[" * 2000, b'{"a":' * 2000, b"x" * 3000, b"a." * 500, b"\x1f\x8b", b"--", b"--help", b"-", b"b2b", b"D-1"),
    *(b"2026-02-30", b"9999-12-31", b"0001-01-01", b"1979-05-27T07:32:00", b"'''", b'"""', b"\\N", b"utf-16", b"cp037"),
]  # fmt: skip


def spoilt(random, given, others):
    """Bytes with some of them taken away, exchanged, doubled or added."""
    data = bytearray(given)
    for _ in range(random.choice([1, 1, 2, 3, 8])):
        at = random.randint(0, len(data))
        to = min(len(data), at + random.choice([1, 1, 2, 4, 16, 64]))
        match random.randint(0, 6):
            case 0 if data:
                data[at % len(data)] ^= 1 << random.randint(0, 7)
            case 1:
                del data[at:to]
            case 2:
                data[at:at] = random.choice(_PIECES)
            case 3:
                data[at:to] = random.choice(_PIECES)
            case 4:
                data[at:at] = data[at:to] * random.choice([1, 2, 50])
            case 5:
                data[at:to] = random.randbytes(random.randint(0, 4))
            case _:
                other = random.choice(others)
                data[at:] = other[random.randint(0, len(other)) :]
    return bytes(data[:200_000])
