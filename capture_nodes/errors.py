"""The base error of `capture_nodes`."""

from __future__ import annotations


class CaptureError(Exception):
    """Something a user can mend; the message names the thing, its value, the bounds and the way out."""
