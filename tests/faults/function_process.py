"""A function in a process of its own, which a test can kill: one JSON event a line in, one JSON answer a line out."""

import importlib
import json
import sys
import traceback
from datetime import datetime
from functools import partial


def maintenance():
    """TableMaintenanceFunction at the clock of the event, with memory for a few hundred rows."""
    from process import close_day, maintenance

    close_day.JOINED_AT_ONCE = 8
    run, limits = maintenance.Run, close_day.Limits(held_bytes=200_000, slice_bytes=100_000, part_bytes=60_000)

    def handler(event, context):
        now = datetime.fromisoformat(event.pop("now"))
        maintenance.Run = partial(run, now=lambda: now, limits=limits)
        try:
            return maintenance.lambda_handler(event, context)
        except Exception as error:
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"}

    return handler


name = sys.argv[1]
answers, sys.stdout = sys.stdout, sys.stderr
handler = maintenance() if name == "maintenance" else importlib.import_module(f"{name}.app").lambda_handler
for line in sys.stdin:
    print(json.dumps(handler(json.loads(line), None)), file=answers, flush=True)
