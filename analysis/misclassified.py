"""What the best model got wrong: the images beside its weights, as pictures of a page.

A checkpoint's JSON holds the test images that the network took for something else with the most
confidence (see docs/storage.md). Here they are read and checked; a file that is missing, or that
is not what it should be, holds none.
"""

import base64
import binascii
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.weights import description

LARGEST = 512  # pixels a side: beyond it, it is not one of these images
MOST = 24


@dataclass(frozen=True)
class Mistake:
    """A test image that was taken for another class."""

    index: int  # in the test set
    label: int  # the true class
    predicted: int
    probability: float  # that the network gave to `predicted`
    pixels: bytes  # side * side grey values, row by row

    @property
    def side(self) -> int:
        """Pixels along a side."""
        return math.isqrt(len(self.pixels))


def mistakes(checkpoint: Path) -> list[Mistake]:
    """Read the mistakes beside a checkpoint's weights, the most confident first."""
    kept = description(checkpoint).get("confused")
    entries = kept if isinstance(kept, list) else []
    return [mistake for entry in entries[:MOST] if (mistake := _mistake(entry)) is not None]


def _mistake(entry: Any) -> Mistake | None:
    try:
        pixels = base64.b64decode(entry["pixels"], validate=True)
        mistake = Mistake(
            int(entry["index"]),
            int(entry["label"]),
            int(entry["predicted"]),
            float(entry["probability"]),
            pixels,
        )
    except (TypeError, KeyError, ValueError, binascii.Error):
        return None
    square = 0 < mistake.side <= LARGEST and mistake.side**2 == len(pixels)
    return mistake if square and 0 <= mistake.probability <= 1 else None


def png(pixels: bytes, side: int) -> bytes:
    """Write grey values as a PNG file (ISO/IEC 15948): signature, header, image, end."""
    rows = b"".join(b"\0" + pixels[start : start + side] for start in range(0, side * side, side))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)  # 8 bits of grey, no interlace
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
