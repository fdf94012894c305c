"""The head of a log: its last position and the chain there, small enough to be kept somewhere else."""

import re

import msgspec

from dealtrail.domain.errors import error

_WRITTEN = re.compile(r"(?P<position>0|[1-9][0-9]{0,17}):(?P<chain>[0-9a-f]{64})")


class Head(msgspec.Struct, frozen=True):
    """The end of a log: the position of the last event (0 where there is none) and the chain there, in hexadecimal.

    As text it is `POSITION:CHAIN`. Kept elsewhere, it shows later whether the log was cut or rewritten.
    """

    position: int
    chain: str

    def __str__(self) -> str:
        return f"{self.position}:{self.chain}"

    @classmethod
    def parse(cls, given: object) -> "Head":
        """A head from its text; one that is a head already stays. Errors: invalid_field."""
        written = _WRITTEN.fullmatch(str(given)) if isinstance(given, str | Head) else None
        if written is None:
            raise error("invalid_field", "head", why="give POSITION:CHAIN as `dealtrail head` printed it")
        return cls(int(written["position"]), written["chain"])
