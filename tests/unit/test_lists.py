"""The suppression list as a CSV file."""

import io

from tools.operate import lists
from tools.operate.lists import write

ROW = ("4711", "hard_bounce", 'Bounced: "no such user"', "all", "2026-11-10T10:00:00Z")


def test_an_address_like_a_formula_stays_the_address_and_is_told_of(capsys):
    file = io.StringIO()
    assert write(file, iter([("=1+1@example.com", *ROW), ("somebody@example.com", *ROW)]), bird=False) == 2
    assert file.getvalue().splitlines()[1:] == [
        '=1+1@example.com,4711,hard_bounce,"Bounced: ""no such user""",all,2026-11-10T10:00:00Z',
        'somebody@example.com,4711,hard_bounce,"Bounced: ""no such user""",all,2026-11-10T10:00:00Z',
    ]
    assert capsys.readouterr().err == "1 begin like a formula: import the file, do not open it in a spreadsheet\n"


def test_birds_form_has_a_line_for_each_kind_of_mail_that_is_to_stop(capsys):
    file = io.StringIO()
    rows = [("a@example.com", "0", "hard_bounce", "Bounced", "all", ""), ("b@example.com", "0", "x", "y", "none", "")]
    assert write(file, iter(rows), bird=True) == 2
    assert file.getvalue() == (
        "recipient,type,description\r\n"
        "a@example.com,non_transactional,Bounced\r\n"
        "a@example.com,transactional,Bounced\r\n"
        "b@example.com,non_transactional,y\r\n"
    )
    assert capsys.readouterr().err == ""


def test_a_list_without_the_hashed_addresses_says_so(monkeypatch, capsys):
    class Hashing:
        outputs = {"HashKeyArn": "the-arn"}  # noqa: RUF012

    monkeypatch.setattr(lists, "from_athena", lambda target, sql: iter([]))
    lists.export(Hashing(), output=None, since=None, subaccount=None, bird=False, postgres=None, schema="bird")
    assert capsys.readouterr().err.splitlines() == [
        "0 addresses",
        "without those that HashFields has made hashes of: find them in suppression_candidates",
    ]
