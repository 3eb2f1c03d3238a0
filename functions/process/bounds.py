"""Limits on what one batch may expand to: 10 kB of gzip can hold five million elements. Pure.

Bird sends 1 to 350 events in a batch, some more at times, of 27 types and of one day, seldom two: half a megabyte. A
batch beyond LIMITS is quarantined as one record that points to the raw object; `operate replay --batch … --force`
splits it. A hundred elements are within every limit but that of bytes, whatever they are.
"""

from typing import NamedTuple

MEBIBYTE = 1024 * 1024


class Bounds(NamedTuple):
    body_bytes: int  # decompressed
    elements: int
    types: int  # pairs of class and type
    days: int  # each is a file
    groups: int  # pairs of a type and a day
    quarantined: int  # elements that are not events, or were repaired


LIMITS = Bounds(
    body_bytes=16 * MEBIBYTE,  # 30 times Bird's, and more than a front door lets through: 1 MB (ALB), 6 MB (HTTP API)
    elements=10_000,  # 28 times Bird's; a row takes up to 3 kB until it is written
    types=200,  # 7 times what Bird documents
    days=100,  # Bird gives up after 8 hours; a history that is imported has one batch a day or more
    groups=1_000,  # 12 times 27 types of 3 days
    quarantined=1_000,  # all elements of a batch, if Bird changes its format
)
# Bird's own batches stay within these. Larger ones wait until Bird's are rows, so that they cannot delay them.
LIGHT = Bounds(body_bytes=MEBIBYTE, elements=2_000, types=50, days=5, groups=100, quarantined=100)

# Values of a body over LIGHT.body_bytes, counted by its commas, because each takes memory before it can be checked.
# Bird's bodies have one in 30 bytes.
MAX_VALUES = 1_000_000
# Members of one element, counted by its colons. Bird's events have up to 60, and 10 kB of metadata.
MAX_MEMBERS = 100_000
# Characters of a batch's damaged elements at which a repair has to look: each takes a microsecond, and 1 kB of gzip has
# up to a million. A batch of Bird's with 350 events has 90,000.
MAX_REPAIR_STEPS = 500_000
# Bytes of a quarantined element that its record keeps; the raw object has all. Bird's events take 1 or 2 kB.
MAX_ORIGINAL_BYTES = 16 * 1024


class BeyondBoundsError(Exception):
    """A batch that would expand to too much; the text is the reason."""
