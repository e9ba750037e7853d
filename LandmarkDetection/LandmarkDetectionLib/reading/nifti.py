"""Whether a NIfTI file holds all the voxels its header promises: ITK fills the rest with whatever lies in memory."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

_CHUNK = 2**20
_HEADER_BYTES = 540


def is_complete(path: Path) -> bool:
    """Whether a .nii or .nii.gz file can be unpacked and is as long as its header says (NIfTI-1 and NIfTI-2).

    Reads compressed files once from end to end, one MiB at a time.
    """
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_packed else path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            return len(header) + _rest(file) >= _promised_bytes(header)
    except (OSError, EOFError, zlib.error, struct.error):
        return False


def _rest(file: BinaryIO) -> int:
    """Number of bytes up to the end."""
    total = 0
    while chunk := file.read(_CHUNK):
        total += len(chunk)
    return total


def _promised_bytes(header: bytes) -> float:
    """Offset of the voxels plus their size; infinite where this is no NIfTI header."""
    for order in "<>":
        (length,) = struct.unpack_from(f"{order}i", header)
        if length == 348:
            dim = struct.unpack_from(f"{order}8h", header, 40)
            (bits,) = struct.unpack_from(f"{order}h", header, 72)
            (offset,) = struct.unpack_from(f"{order}f", header, 108)
        elif length == 540:
            dim = struct.unpack_from(f"{order}8q", header, 16)
            (bits,) = struct.unpack_from(f"{order}h", header, 14)
            (offset,) = struct.unpack_from(f"{order}q", header, 168)
        else:
            continue
        return offset + math.prod(max(1, n) for n in dim[1 : dim[0] + 1]) * bits / 8
    return math.inf
