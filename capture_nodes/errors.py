"""The base error of `capture_nodes`, and what is told of any error."""

from __future__ import annotations


class CaptureError(Exception):
    """Something a user can mend; the message names the thing, its value, the bounds and the way out."""


def error_text(error: Exception) -> str:
    """In a line for somebody to read: what a `CaptureError` says, and what kind of fault any other is."""
    return str(error) if isinstance(error, CaptureError) else repr(error)
