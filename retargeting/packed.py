"""`pack`: many arrays as one argument of compiled code. `bind`: a call whose arguments stay the same.

numba looks at every array of every argument in every call, 0.2 µs for each, and at the types of all, 1 µs for
each that is no plain array. What stays the same from call to call (the arrays, not what is in them) is looked
at once and then passed as one reference, or bound to the function for good.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import typeof, types
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


def bind(function: Any, fixed: tuple[Any, ...], numbers: tuple[Any, ...] = ()) -> Callable[..., Any]:
    """The compiled `function` with its first arguments `fixed`; what is left are numbers.

    `numbers`: an example of them, Python's own. Only such may be passed: nobody looks at their types any
    more. Compiles, or loads, what is called.
    """
    kinds = tuple(typeof(argument) for argument in (*fixed, *numbers))
    return partial(function.compile(kinds), *fixed)


@compiled
def pack(content):  # type: ignore[no-untyped-def]
    """A `Packed` of a tuple of arrays, numbers and tuples of these."""
    return Packed(content)
