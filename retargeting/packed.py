"""`pack`: many arrays as one argument of compiled code.

numba looks at every array of every argument in every call, 0.2 µs for each. What stays the same from call
to call (the arrays, not what is in them) is looked at once and then passed as one reference.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.experimental import structref

from retargeting.compiled import compiled


@structref.register
class PackedType(types.StructRef):  # type: ignore[misc]
    def preprocess_fields(self, fields: Any) -> Any:
        return tuple((name, types.unliteral(kind)) for name, kind in fields)


class Packed(structref.StructRefProxy):  # type: ignore[misc]
    """In compiled code, `content` is the tuple that was packed."""

    def __new__(cls, content: tuple[Any, ...]) -> Any:
        return pack(content)


structref.define_boxing(PackedType, Packed)
structref.define_constructor(Packed, PackedType, ["content"])
structref.define_attributes(PackedType)


@compiled
def pack(content):  # type: ignore[no-untyped-def]
    """A `Packed` of a tuple of arrays, numbers and tuples of these."""
    return Packed(content)
