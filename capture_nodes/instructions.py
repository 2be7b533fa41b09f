"""The instruction of an episode in words: one text, or one in each of several languages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from capture_nodes.errors import CaptureError

# BCP 47 as far as it is used here: a language, and perhaps a script or region.
_LANGUAGE = re.compile(r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")
# BCP 47's word for a language that is not stated.
UNDETERMINED = "und"


def read_instructions(text: str) -> Mapping[str, str]:
    """Language to text, from a plain text or a JSON object such as ``{"en": "Lift it", "de": "Heb es"}``.

    Raises `CaptureError` where an object has anything but languages (BCP 47) and texts, or a text cannot be
    written down.
    """
    if not text.lstrip().startswith("{"):
        _check_text(text)
        return {UNDETERMINED: text} if text else {}
    try:
        said = json.loads(text)
    except ValueError as error:
        raise CaptureError(f"instruction {text!r} begins as JSON and is none: {error}") from error
    except RecursionError as error:
        raise CaptureError(f"instruction {text[:40]!r}… is nested too deeply: texts are expected") from error
    for language, words in said.items():
        if not _LANGUAGE.match(language) or not isinstance(words, str):
            raise CaptureError(
                f"instruction {text!r}: {language!r}: {words!r} is given; a language such as en or zh-Hans "
                "and a text are expected"
            )
        _check_text(words)
    return dict(said)


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CaptureError(
            f"instruction {text!r}: {error.object[error.start]!r} at {error.start} is no character: "
            "Unicode text is expected"
        ) from error
