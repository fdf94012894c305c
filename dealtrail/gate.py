"""The gate: every action and question goes through it, and a host's hook may refuse it there."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from dealtrail.asking import Question
from dealtrail.domain.actions import Action, parse_action
from dealtrail.domain.errors import DealtrailError, InvalidInput, Refused, error
from dealtrail.domain.texts import Word, shaped
from dealtrail.projections.readmodel import ReadModel
from dealtrail.store.log import Log
from dealtrail.store.telemetry import Work

Request = Action | Question
# Called with who asks or acts, and what; raising refuses it.
Authorize = Callable[[str, Request], None]


class Gate:
    """Who acts and asks, where that is known, and the hook that says whether they may."""

    def __init__(self, authorize: Authorize | None, actor: str | None = None) -> None:
        if not (authorize is None or callable(authorize)):
            raise error("invalid_field", "authorize", why="give a function of an actor and a request")
        self._authorize = authorize
        self._actor = actor

    def acting(self, actor: str) -> "Gate":
        """The same gate for one actor. Errors: forbidden, where somebody acts already."""
        if self._actor is not None:
            why = f"acting for {self._actor} already; take `acting` of the trail that was opened"
            raise error("forbidden", "actor", actor=self._actor, why=why)
        return Gate(self._authorize, shaped(actor, Word, "actor"))

    def ask(self, question: Question) -> None:
        """Let a question through. Errors: forbidden."""
        if self._authorize is not None:
            if self._actor is None:
                why = "it is not said who asks; ask through trail.acting(actor)"
                raise error("forbidden", "actor", actor="somebody", why=why)
            self._let(self._actor, question)

    def named(self, by: str) -> None:
        """Refuse a `by` that names somebody else than the one who acts. Errors: forbidden."""
        if self._actor not in (None, by):
            raise error("forbidden", "by", actor=self._actor, why=f"`by` names {by}")

    def action(self, given: Any) -> Any:
        """An action, typed and allowed. Errors: forbidden; missing_field, where it has no `by`; those of its shape."""
        action: Action = parse_action(given)
        if action.by is None and self._actor is not None:
            action = msgspec.structs.replace(action, by=self._actor)
        if action.by is None:
            raise error("missing_field", "by")
        self.named(action.by)
        self._let(action.by, action)
        return action

    def together(self, actions: Any) -> Any:
        """The actions of one step, each allowed."""
        return self._together(actions) if self._watches and isinstance(actions, Iterable) else actions

    def apart(self, actions: Iterable[Any]) -> Iterable[Any]:
        """Actions that are steps of their own, each allowed, or the error in the place of one that is not."""
        # What is no list is refused by whoever records it.
        return map(self._tried, actions) if self._watches and isinstance(actions, Iterable) else actions

    @property
    def _watches(self) -> bool:
        return self._authorize is not None or self._actor is not None

    def _together(self, actions: Iterable[Any]) -> Iterable[Action]:
        for index, given in enumerate(actions):
            try:
                yield self.action(given)
            except DealtrailError as refusal:
                refusal.facts["index"] = index
                raise

    def _tried(self, given: Any) -> Any:
        if isinstance(given, DealtrailError):
            return given
        try:
            return self.action(given)
        except (InvalidInput, Refused) as refusal:
            return refusal

    def _let(self, actor: str, request: Request) -> None:
        if self._authorize is None:
            return
        try:
            self._authorize(actor, request)
        except Exception as objection:
            why = getattr(objection, "message", None) or str(objection) or type(objection).__name__
            raise error("forbidden", actor=actor, why=why) from objection


class Asking:
    """What every part of Trail that answers questions has."""

    _log: Log
    _model: ReadModel
    _gate: Gate

    def _asked(self, question: Question) -> Work:
        """Let a question through; what this returns measures the answer. Errors: forbidden."""
        self._gate.ask(question)
        return Work(question.name, self._log.path)
