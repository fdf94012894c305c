"""AES-256-GCM, the one place that needs the `cryptography` package."""

from os import urandom
from typing import Any

from dealtrail.domain.errors import error

KEY_BYTES = 32
_NONCE_BYTES = 12


def new_key() -> bytes:
    """A random key."""
    return urandom(KEY_BYTES)


def encrypt(key: bytes, plain: bytes, bound: bytes) -> bytes:
    """A random nonce and the ciphertext, which can be read with the same key and the same bound bytes alone."""
    nonce = urandom(_NONCE_BYTES)
    return nonce + bytes(_gcm(key).encrypt(nonce, plain, bound))


def decrypt(key: bytes, encrypted: bytes, bound: bytes) -> bytes | None:
    """The plain bytes; None where the key or the bound bytes are others, or the ciphertext was changed."""
    from cryptography.exceptions import InvalidTag

    try:
        return bytes(_gcm(key).decrypt(encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:], bound))
    except (InvalidTag, ValueError):  # a ValueError where it is too short to hold a nonce and a tag
        return None


def must_be_there() -> None:
    """Refuse to begin what could not go on. Errors: not_installed."""
    _gcm(bytes(KEY_BYTES))


def _gcm(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise error("not_installed", package="cryptography", extra="keys") from None
    return AESGCM(key)
