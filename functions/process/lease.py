"""The object that keeps runs of the table's maintenance, and erasures, apart. Pure: bird_webhooks writes it too."""

from datetime import datetime

import msgspec

LEASE = "maintenance/lease.json"


class Lease(msgspec.Struct):
    owner: str
    until: datetime
