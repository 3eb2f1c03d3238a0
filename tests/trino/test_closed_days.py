"""Days are closed while mail arrives, runs are killed and Trino asks: none of its answers is wrong, none fails.

For the night: a person is erased meanwhile. tests/faults/test_closed_days.py has it in the local Athena.
"""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from bird_webhooks.simulator.ledger import Ledger
from local_aws import deploy as local_stack
from local_aws import trino as local_trino
from tests.stress import Row, Stress
from tests.trino.athena import text

DAYS, ROUNDS, HOURS, ERASE_AT = 6, 50, 4, 25
BATCHES = 5


@pytest.mark.nightly
def test_every_answer_is_right_while_days_are_closed(emulator, tmp_path):
    stack = local_stack.create_or_update(emulator, "bird-trino-closed-days")
    today = datetime.now(UTC).date()

    with local_trino.running(emulator) as engine, closing(Ledger(tmp_path / "ledger.ndjson")) as ledger:

        def ask(sql: str) -> list[Row]:
            columns, rows = engine.query(sql, stack.outputs["GlueDatabaseName"])
            return [dict(zip([name for name, _ in columns], map(text, row), strict=True)) for row in rows]

        stress = Stress(stack, ledger, [today - timedelta(days=DAYS + 2 - number) for number in range(DAYS)])
        with (
            stress.arrivals(),
            stress.readers(lambda: stress.ask_view(ask), lambda: stress.ask_table(ask)),
        ):
            stress.rounds(ROUNDS, batches=BATCHES, hours=HOURS, erase_at=ERASE_AT)
    figures = f"{dict(stress.answers)} answers, {dict(stress.done)}, {stress.killed} killed, {len(stress.files)} files"
    assert (stress.wrong, figures) == ([], figures)
    assert min(stress.answers["view"], stress.answers["table"]) >= 3, figures
    assert stress.done["closed"] >= DAYS, figures
    assert stress.done["erased"] == len(stress.erased) >= 5, figures
