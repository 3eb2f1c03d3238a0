"""What the maintenance of the table knows of a date: its object in the lake, and what is to be done next. Pure.

maintenance/days/event_date=<date>.json is written only if it is still what was read, and before everything that it
makes visible or deletes. It is the manifest of a closed day for readers by path: `location`, `files`, `rows`, `exact`.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta

import msgspec

from process.closing import Piece

# Queues keep a message 14 days at most (SQS, "Amazon SQS message quotas"): whatever reader was told of a small file
# finds it for as long as its message can live.
SMALL_FILES_STAY = timedelta(days=15)
# A query that began before the partition was moved may read the version before for as long as it runs: Athena's end
# after 30 minutes by default, and after 240 at most.
REPLACED_STAYS = timedelta(days=1)
# A date that is not closed so long after it could have been is worth a look.
OVERDUE = timedelta(hours=26)
STATES = "maintenance/days/"


class Small(msgspec.Struct, frozen=True, array_like=True):
    """A file of process' as it was when it was listed. `etag` without its quotation marks."""

    name: str
    etag: str


class File(msgspec.Struct, frozen=True):
    name: str
    rows: int
    bytes: int


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Rows of the first `consumed` inputs of an attempt that no part before has, by slice, in one object."""

    name: str
    consumed: int
    pieces: list[Piece]


class TakenIn(msgspec.Struct, frozen=True):
    """Small files whose rows are in the closed ones since then."""

    at: datetime
    files: list[Small]


class Version(msgspec.Struct, frozen=True):
    name: str
    files: list[File]
    exact: bool = True
    at: datetime | None = None  # when it was replaced or given up, for such

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


class Attempt(msgspec.Struct):
    """A version on its way. `inputs` are the small files to be taken in; those of `base` come before them."""

    version: str
    base: str | None
    inputs: list[Small]
    slices: int = 1
    consumed: int = 0  # of the files of base and the inputs together
    parts: list[Part] = []
    merged: int = 0  # slices that are files
    files: list[File] = []
    exact: bool = True
    gone: int = 0  # of what was read, files that were not there any more


class DayState(msgspec.Struct):
    event_date: date
    format: int = 1
    number: int = 0  # of versions begun
    current: Version | None = None
    location: str = ""  # of the current version, a prefix of the lake bucket
    rows: int = 0
    closed_at: datetime | None = None
    announced: str = ""  # the version that subscribers were told of last
    taken_in: list[TakenIn] = []
    # Names of small files whose time is over. A message in a dead-letter queue may live longer than its file, and
    # load_postgres then learns here that the closed files have the rows. 43 bytes each: 230 kB for ten thousand events.
    deleted: list[str] = []
    replaced: list[Version] = []
    attempt: Attempt | None = None
    files_gone: int = 0  # that no version could take in, because they were not there any more


def state_key(day: date) -> str:
    return f"{STATES}event_date={day}.json"


def decode(body: bytes) -> DayState:
    return msgspec.json.decode(body, type=DayState)


def encode(state: DayState) -> bytes:
    return msgspec.json.encode(state)


def ended(day: date, now: datetime) -> bool:
    return now.date() > day


def due(day: date, now: datetime, close_after: timedelta) -> bool:
    return now >= datetime.combine(day + timedelta(days=1), datetime.min.time(), now.tzinfo) + close_after


def late(state: DayState, small: Iterable[Small]) -> list[Small]:
    """What no version has: new files, and those written again with another content."""
    known = _taken_in(state)
    return [file for file in small if known.get(file.name) != file.etag]


def begin(state: DayState, inputs: Sequence[Small], columns: int) -> None:
    """Plan a version of the current one and these files. `columns` tells a version of the code from one with more."""
    _plan(state, inputs, str(columns))


def begin_erasure(state: DayState) -> Attempt:
    """Plan a version of the current one's files without a person. The maintenance never goes on with it, but gives it
    up, because its name is none that `begin` makes."""
    attempt = _plan(state, [], "erasure")
    attempt.exact = state.current is None or state.current.exact
    return attempt


def give_up(state: DayState, now: datetime) -> None:
    """The attempt's files are deleted as those of a replaced version are."""
    if state.attempt:
        state.replaced.append(Version(state.attempt.version, state.attempt.files, at=now))
        state.files_gone += state.attempt.gone
    state.attempt = None


def commit(state: DayState, now: datetime) -> None:
    """The attempt is the current version from now on."""
    attempt = state.attempt
    if attempt is None:
        raise ValueError("no attempt")
    if state.current:
        state.replaced.append(Version(state.current.name, state.current.files, state.current.exact, now))
    state.current = Version(attempt.version, attempt.files, attempt.exact)
    state.location = f"closed/event_date={state.event_date}/{attempt.version}/"
    state.rows = state.current.rows
    state.closed_at = now
    if attempt.inputs:
        state.taken_in.append(TakenIn(now, attempt.inputs))
    state.files_gone += attempt.gone
    state.attempt = None


def left(state: DayState, location: str, now: datetime) -> None:
    """The partition pointed to `location` until now, so what queries may be reading there stays for as long again.

    A run that ended between commit and point leaves readers at a version that was replaced long ago, or at small files.
    """
    state.replaced = [
        msgspec.structs.replace(version, at=now) if location.endswith(f"/{version.name}/") else version
        for version in state.replaced
    ]
    earliest = now + REPLACED_STAYS - SMALL_FILES_STAY
    state.taken_in = [TakenIn(max(group.at, earliest), group.files) for group in state.taken_in]


def small_to_delete(state: DayState, now: datetime) -> list[Small]:
    """Whose time is over, each only as it was when it was taken in last."""
    known = _taken_in(state)
    over = {file for group in state.taken_in if group.at + SMALL_FILES_STAY <= now for file in group.files}
    staying = {file for group in state.taken_in if group.at + SMALL_FILES_STAY > now for file in group.files}
    return sorted((file for file in over - staying if known[file.name] == file.etag), key=lambda file: file.name)


def small_deleted(state: DayState, now: datetime) -> None:
    over = [group for group in state.taken_in if group.at + SMALL_FILES_STAY <= now]
    state.taken_in = [group for group in state.taken_in if group not in over]
    state.deleted = sorted({*state.deleted, *(file.name for group in over for file in group.files)})


def replaced_to_delete(state: DayState, now: datetime) -> list[Version]:
    return [version for version in state.replaced if version.at and version.at + REPLACED_STAYS <= now]


def replaced_deleted(state: DayState, versions: Sequence[Version]) -> None:
    gone = {version.name for version in versions}
    state.replaced = [version for version in state.replaced if version.name not in gone]


def _plan(state: DayState, inputs: Sequence[Small], kind: str) -> Attempt:
    base = state.current.name if state.current else None
    state.number += 1
    facts = [kind, base or "", *(f"{file.name} {file.etag}" for file in inputs)]
    version = f"{state.number:04}-{hashlib.sha256('\n'.join(facts).encode()).hexdigest()[:12]}"
    state.attempt = attempt = Attempt(version, base, list(inputs))
    return attempt


def _taken_in(state: DayState) -> Mapping[str, str]:
    return {file.name: file.etag for group in state.taken_in for file in group.files}
