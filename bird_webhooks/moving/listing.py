"""The objects of a source by time. It sorts on the disk, because there may be a million."""

import sqlite3
from collections.abc import Iterator
from datetime import datetime

from bird_webhooks.moving.sources import Entry
from bird_webhooks.terminal import Progress


class Entries:
    """Sorted on the disk, as there may be a million. Gone when it is closed."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self.database = sqlite3.connect("")
        self.database.execute("CREATE TABLE entry (time REAL, name TEXT, size INTEGER, modified TEXT, version TEXT)")
        progress = Progress()
        for number, entry in enumerate(entries, 1):
            moment = entry.time_in_name or entry.modified
            self.database.execute(
                "INSERT INTO entry VALUES (?, ?, ?, ?, ?)",
                (
                    moment.timestamp() if moment else 0,
                    entry.name.encode(errors="surrogateescape"),
                    entry.size,
                    entry.modified.isoformat() if entry.modified else None,
                    entry.version,
                ),
            )
            progress.show(f"listing: {number:,} objects")
        progress.done()

    def __iter__(self) -> Iterator[Entry]:
        for name, size, modified, version in self.database.execute(
            "SELECT name, size, modified, version FROM entry ORDER BY time, name"
        ):
            moment = datetime.fromisoformat(modified) if modified else None
            yield Entry(name.decode(errors="surrogateescape"), size, moment, version)

    def close(self) -> None:
        self.database.close()
