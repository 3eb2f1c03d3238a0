"""Series of hours or days -> bars, as the parts of an SVG that Jinja writes. Pure.

Lengths are pixels of height, and tenths of a bar's place in width: the drawing is stretched to the width of the page,
while its text keeps its size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

HEIGHT = 150
PLACE, BAR = 10, 8
GAP = 1  # between the parts of a bar, so that each has the paper beside it
MAX_LABELS = 7  # that have room on a phone
LAST_LABEL = 90  # percent of the width: a later one would not fit on a phone
MAX_LINES = 4

Slots = Sequence[Mapping[str, Any]]
Parts = Sequence[tuple[str, str]]  # (label, name in a slot, which is its colour's too), the lowest first


@dataclass(frozen=True)
class Chart:
    title: str
    parts: Parts
    width: int
    paths: list[tuple[str, str]]  # (colour, the d of a path)
    tips: list[tuple[int, str]]  # (left edge, text)
    lines: list[tuple[float, str]]  # (distance from the top, label)
    labels: list[tuple[float, str]]  # (percent of the width, text)
    total: int


def chart(title: str, slots: Slots, parts: Parts, *, hourly: bool) -> Chart:
    names = [name for _, name in parts]
    highest = max((sum(slot[name] for name in names) for slot in slots), default=0)
    top = max(highest, 1)
    paths: dict[str, list[str]] = {name: [] for name in names}
    for place, slot in enumerate(slots):
        bottom = 0.0
        for name in names:
            height = HEIGHT * slot[name] / top
            if slot[name]:
                lift = GAP if bottom and height > 2 * GAP else 0
                shown = max(height - lift, 1)
                paths[name].append(f"M{PLACE * place + 1} {HEIGHT - bottom - lift:.4g}h{BAR}v-{shown:.4g}h-{BAR}z")
            bottom += height
    return Chart(
        title=title,
        parts=parts,
        width=PLACE * len(slots),
        paths=[(name, "".join(drawn)) for name, drawn in paths.items() if drawn],
        tips=[
            (PLACE * place, tip(slot, parts, hourly)) for place, slot in enumerate(slots) if any(map(slot.get, names))
        ],
        lines=[(HEIGHT - HEIGHT * value / top, f"{value:,}") for value in marks(top)],
        labels=day_labels(slots),
        total=sum(slot[name] for slot in slots for name in names),
    )


def marks(top: int) -> list[int]:
    """Up to four round numbers, the highest not above `top`."""
    step = next(
        factor * 10**power for power in range(20) for factor in (1, 2, 5) if top / (factor * 10**power) <= MAX_LINES
    )
    return list(range(step, top + 1, step))


def day_labels(slots: Slots) -> list[tuple[float, str]]:
    """At the first slot of a day, or of every sixth hour where there are few days."""
    starts: list[datetime] = [slot["start"] for slot in slots]
    days = [place for place, start in enumerate(starts) if start.hour == 0 and start.minute == 0]
    if len(days) < 3 < len(starts):
        days = [place for place, start in enumerate(starts) if start.hour % 6 == 0]
    every = -(-len(days) // MAX_LABELS) or 1
    places = [(100 * place / len(starts), label(starts[place])) for place in days[::every]]
    return [(percent, text) for percent, text in places if percent <= LAST_LABEL]


def label(start: datetime) -> str:
    return start.strftime("%H:%M" if start.hour else "%-d %b")


def tip(slot: Mapping[str, Any], parts: Parts, hourly: bool) -> str:
    when = slot["start"].strftime("%-d %b, %H:%M" if hourly else "%-d %b")
    return f"{when}: " + ", ".join(f"{slot[name]:,} {text.lower()}" for text, name in parts if slot[name])
