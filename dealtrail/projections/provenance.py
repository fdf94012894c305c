"""Where a report came from: the question as it was understood, and the digests that an auditor compares."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec

from dealtrail.domain.errors import error
from dealtrail.domain.times import iso, moment
from dealtrail.projections.definitions import understood
from dealtrail.projections.question import Lens, When
from dealtrail.store.log import Log

_encode = msgspec.json.Encoder(order="sorted").encode


def heading(
    log: Log, report: str, at: When, lens: Lens, asked: Mapping[str, Any], figures: msgspec.Struct
) -> dict[str, Any]:
    """What every report says of itself, by the names of its fields: the moments, the version, the question, digests.

    `asked` are the other arguments, as they were understood: the report can be made again from its question.
    """
    question = {
        "report": report,
        "pipeline": lens.pipeline.key,
        "as_of": iso(at.as_of),
        "known_at": iso(at.known_at),
        **asked,
        "definition": understood(asked["definition"], lens),
    }
    content = content_digest(question, figures)
    with log.reading() as reading:
        chain = reading.chain_at(at.position)
    if chain is None:
        raise error("damaged", path=log.path, why="the log ends before what was read from it")
    return {
        "question": question,
        "pipeline": lens.pipeline.key,
        "as_of": moment(at.as_of),
        "known_at": moment(at.known_at),
        "position": at.position,
        "definition": lens.number,
        "draft": lens.draft,
        "content_digest": content,
        "digest": digest(content, chain),
        **{name: getattr(figures, name) for name in figures.__struct_fields__},
    }


def content_digest(question: Any, figures: Any) -> str:
    """SHA-256 over a question and the figures that answer it, as canonical JSON."""
    return sha256(_encode([question, figures])).hexdigest()


def digest(content: str, chain: bytes) -> str:
    """SHA-256 over a content digest and the log's chain at the report's position."""
    return sha256(f"{content}:{chain.hex()}".encode()).hexdigest()
