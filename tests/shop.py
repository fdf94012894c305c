"""A store on disk with a small pipeline, and the command line to ask it: what the tests of the command line share."""

import json

from click.testing import CliRunner

from dealtrail import Trail
from dealtrail.cli.app import app

STAGES = [
    {"key": "lead", "name": "Lead", "probability": 0.1, "rots_after_days": 10},
    {
        "key": "demo",
        "name": "Demo",
        "probability": 0.4,
        "actions": [{"key": "held", "name": "Held", "required": True}],
    },
    {"key": "offer", "name": "Offer", "probability": 0.8},
]
# D-1 is worth 1200.50 EUR in demo, D-2 is lost from lead, D-3 has no owner and nothing but a number of seats.
PAST = [
    {"action": "define_pipeline", "pipeline": "b2b", "stages": STAGES, "at": "2025-01-01T00:00:00Z"},
    {
        "action": "open_deal",
        "deal": "D-1",
        "pipeline": "b2b",
        "owner": "anna",
        "source": "web",
        "value": {"amount": "1200.50", "currency": "EUR"},
        "title": "Anna's first",
        "at": "2025-01-05T09:00:00Z",
    },
    {"action": "move_deal", "deal": "D-1", "stage": "demo", "at": "2025-01-15T09:00:00Z"},
    {"action": "open_deal", "deal": "D-2", "pipeline": "b2b", "owner": "bram", "at": "2025-02-01T09:00:00Z"},
    {"action": "lose_deal", "deal": "D-2", "reason": "price", "at": "2025-02-11T09:00:00Z"},
    {
        "action": "open_deal",
        "deal": "D-3",
        "pipeline": "b2b",
        "attributes": {"seats": 5, "pilot": True, "code": "5"},
        "at": "2025-03-01T09:00:00Z",
    },
]


class Shop:
    """A store, the folder that it is in, and its command line."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "sales.db"

    def run(self, *words, stdin=None, env=None):
        """Run a command on the store."""
        return CliRunner().invoke(app, ["--db", str(self.path), *words], input=stdin, env=env or {})

    def json(self, *words, **more):
        """The answer of a command that must succeed, as the JSON that is all of its stdout."""
        result = self.run(*words, "--format", "json", **more)
        assert (result.exit_code, result.stderr) == (0, "")
        return json.loads(result.stdout)

    def lines(self, *words):
        """The lines of CSV that a command that must succeed prints."""
        result = self.run(*words, "--format", "csv")
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout.split("\n")

    def file(self, name, text):
        """A file beside the store, by its path."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def position(self):
        """How many events the log holds."""
        with Trail.open(self.path, create=False) as trail:
            return trail.status().position
