"""CRC-32 as MCAP and zlib have it; by ISA-L where that is installed, at a third of the processor time."""

from __future__ import annotations

try:
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ["crc32"]
