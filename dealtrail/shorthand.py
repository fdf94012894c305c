"""Shorthand: a method for each action, which builds the action of its name and records it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import date
from typing import Any

from dealtrail.domain.actions import Action
from dealtrail.domain.errors import error
from dealtrail.store.recording import Recorded
from dealtrail.templates import find_template


class Shorthand(ABC):
    """The actions as methods. Each takes, by name, all that its action takes: `at`, `by`, `id`, …."""

    @abstractmethod
    def record(self, action: Mapping[str, Any] | Action) -> Recorded:
        """Record one action."""

    def define_pipeline(
        self, pipeline: str, stages: Any = None, *, template: str | None = None, **more: Any
    ) -> Recorded:
        """Define a new pipeline by its stages, or as a template says.

        Optional: name, entry, back, skip, reasons, assignment, at, by, id. What is given beside a template stands in
        the place of its own. Errors: also unknown_template.
        """
        given = {"stages": stages}
        if template is not None:
            if stages is not None:
                raise error("invalid_field", "template", why="give stages or a template, not both")
            given = find_template(template).definition()
        return self.record({**given, **more, "action": "define_pipeline", "pipeline": pipeline})

    def redefine_pipeline(self, pipeline: str, stages: Any, **more: Any) -> Recorded:
        """Record the next definition of a pipeline.

        Optional: moves, entry, back, skip, reasons, reason_moves, assignment, at, by, id, expected_version.
        """
        return self.record({**more, "action": "redefine_pipeline", "pipeline": pipeline, "stages": stages})

    def open_deal(self, pipeline: str, **more: Any) -> Recorded:
        """Open a deal; optional: deal, stage, value, owner, source, expected_close, attributes, title, …."""
        return self.record({**more, "action": "open_deal", "pipeline": pipeline})

    def move_deal(self, deal: str, stage: str, **more: Any) -> Recorded:
        """Move a deal to another stage."""
        return self.record({**more, "action": "move_deal", "deal": deal, "stage": stage})

    def change_value(self, deal: str, value: Any, **more: Any) -> Recorded:
        """Give a deal another value, or none."""
        return self.record({**more, "action": "change_value", "deal": deal, "value": value})

    def assign_deal(self, deal: str, owner: str | None, **more: Any) -> Recorded:
        """Give a deal another owner, or none."""
        return self.record({**more, "action": "assign_deal", "deal": deal, "owner": owner})

    def change_expected_close(self, deal: str, expected_close: date | str | None, **more: Any) -> Recorded:
        """Change the date on which a deal should close."""
        return self.record({**more, "action": "change_expected_close", "deal": deal, "expected_close": expected_close})

    def set_attributes(self, deal: str, attributes: Mapping[str, Any], **more: Any) -> Recorded:
        """Set attributes of a deal; None removes one."""
        return self.record({**more, "action": "set_attributes", "deal": deal, "attributes": attributes})

    def complete_action(self, deal: str, key: str, **more: Any) -> Recorded:
        """Complete a sales-process action of the deal's stage."""
        return self.record({**more, "action": "complete_action", "deal": deal, "key": key})

    def log_activity(self, deal: str, kind: str, **more: Any) -> Recorded:
        """Log a call, a mail, a meeting; optional: note."""
        return self.record({**more, "action": "log_activity", "deal": deal, "kind": kind})

    def win_deal(self, deal: str, **more: Any) -> Recorded:
        """Win a deal; optional: value."""
        return self.record({**more, "action": "win_deal", "deal": deal})

    def lose_deal(self, deal: str, **more: Any) -> Recorded:
        """Lose a deal; optional: reason."""
        return self.record({**more, "action": "lose_deal", "deal": deal})

    def disqualify_deal(self, deal: str, **more: Any) -> Recorded:
        """Disqualify a deal; optional: reason."""
        return self.record({**more, "action": "disqualify_deal", "deal": deal})

    def reopen_deal(self, deal: str, **more: Any) -> Recorded:
        """Open a closed deal again; optional: stage."""
        return self.record({**more, "action": "reopen_deal", "deal": deal})

    def transfer_deal(self, deal: str, pipeline: str, **more: Any) -> Recorded:
        """Put a deal into another pipeline; optional: stage."""
        return self.record({**more, "action": "transfer_deal", "deal": deal, "pipeline": pipeline})

    def merge_deal(self, deal: str, into: str, **more: Any) -> Recorded:
        """Say that a deal is the same as another, which stays."""
        return self.record({**more, "action": "merge_deal", "deal": deal, "into": into})

    def retract(self, deal: str, version: int, reason: str, **more: Any) -> Recorded:
        """Take back an event that was recorded by mistake."""
        return self.record({**more, "action": "retract", "deal": deal, "version": version, "reason": reason})

    def amend(self, deal: str, version: int, **more: Any) -> Recorded:
        """Correct an event: the fields named replace its own; `at` moves it in time."""
        return self.record({**more, "action": "amend", "deal": deal, "version": version})
