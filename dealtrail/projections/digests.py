"""Digests of reports: one line that an auditor compares."""

from hashlib import sha256
from typing import Any

import msgspec

_encode = msgspec.json.Encoder(order="sorted").encode


def content_digest(question: Any, figures: Any) -> str:
    """SHA-256 over a question and the figures that answer it, as canonical JSON."""
    return sha256(_encode([question, figures])).hexdigest()


def digest(content: str, chain: bytes) -> str:
    """SHA-256 over a content digest and the log's chain at the report's position."""
    return sha256(f"{content}:{chain.hex()}".encode()).hexdigest()
