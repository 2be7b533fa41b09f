"""The pairing token: what a headset must bring along to be let in, and the cookie it is let in by afterwards.

The token is made once per installation and lies in a file that only its user may read; it is shown on the
terminal (QR code) and never logged. The page trades it for a cookie derived from it, so that it stays neither
in the address bar nor in the browser's history.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from capture_nodes.sources.source import SourceError

_TOKEN_BYTES = 16
_SHORTEST = 16
COOKIE = "teleop_capture_paired"


class Pairing:
    """Compares in constant time. Raises `SourceError` on a token too short to be one."""

    def __init__(self, token: str) -> None:
        if len(token) < _SHORTEST or not token.isascii() or not token.isprintable():
            raise SourceError(
                f"the pairing token has less than {_SHORTEST} letters; delete it to have one made"
            )
        self._token = token
        self.cookie = hmac.new(token.encode(), b"paired page", hashlib.sha256).hexdigest()

    def __repr__(self) -> str:
        return "Pairing(…)"

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(self._token.encode(), given.encode("utf-8", "replace"))

    def is_cookie(self, given: str) -> bool:
        return hmac.compare_digest(self.cookie.encode(), given.encode("utf-8", "replace"))

    def url(self, base: str) -> str:
        """The address to open once on the headset; for terminals, never for logs."""
        return f"{base}/?token={self._token}"


def load_pairing(folder: Path) -> Pairing:
    """The installation's pairing, made on first use. Raises `SourceError` where the folder cannot be used."""
    file = folder / "token"
    try:
        if not file.exists():
            write_private(file, (secrets.token_urlsafe(_TOKEN_BYTES) + "\n").encode())
        return Pairing(file.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"the pairing token {file} cannot be used: {error}") from None


def write_private(file: Path, data: bytes) -> None:
    """A file that only its user may read, whole or not at all, in a folder of the same kind."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # mkstemp gives 0600 before anything is written.
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}_")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
