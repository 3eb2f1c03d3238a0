"""The suppression list as a CSV file."""

import io

import pytest

from bird_webhooks.errors import OperateError
from bird_webhooks.operate import lists
from bird_webhooks.operate.lists import Row, write
from bird_webhooks.operate.private_file import private_file

HARD = ("4711", "hard_bounce", 'Bounced: "no such user"', "all", "2026-11-10T10:00:00Z", "1", "")


def row(email: str, *, scope: str = "all", customer_id: str = "", list_id: str = "") -> Row:
    return Row(email, "0", "hard_bounce", "Bounced", scope, "2026-11-10T10:00:00Z", customer_id, list_id)


def test_an_address_like_a_formula_stays_the_address_and_is_told_of(capsys):
    file = io.StringIO()
    rows = [Row(f"{name}@example.com", *HARD) for name in ("=1+1", " =1+1", "somebody")]
    assert write(file, iter(rows)) == 3
    assert file.getvalue().splitlines() == [
        "email,subaccount_id,reason,description,scope,added_at,customer_id,list_id",
        '=1+1@example.com,4711,hard_bounce,"Bounced: ""no such user""",all,2026-11-10T10:00:00Z,1,',
        ' =1+1@example.com,4711,hard_bounce,"Bounced: ""no such user""",all,2026-11-10T10:00:00Z,1,',
        'somebody@example.com,4711,hard_bounce,"Bounced: ""no such user""",all,2026-11-10T10:00:00Z,1,',
    ]
    assert (
        capsys.readouterr().err
        == "lines that begin like a formula: 2 (import the file; do not open it in a spreadsheet)\n"
    )


def test_birds_form_has_a_line_for_each_kind_of_mail_that_is_to_stop(capsys):
    file = io.StringIO()
    rows = [row("a@example.com"), row("b@example.com", scope="non_transactional")]
    assert write(file, iter(rows), bird=True) == 2
    assert file.getvalue() == (
        "recipient,type,description\r\n"
        "a@example.com,non_transactional,Bounced\r\n"
        "a@example.com,transactional,Bounced\r\n"
        "b@example.com,non_transactional,Bounced\r\n"
    )
    assert capsys.readouterr().err == ""


def test_birds_form_mixes_no_two_accounts():
    rows = [row("a@example.com", customer_id="1"), row("a@example.com", customer_id="2")]
    with pytest.raises(OperateError, match="these are of 1 and 2: give --account"):
        write(io.StringIO(), iter(rows), bird=True)


def test_who_left_one_list_is_in_the_file_of_that_list_only(capsys):
    rows = [row("a@example.com"), row("b@example.com", list_id="weekly"), row("c@example.com", list_id="daily")]
    everything, weekly = io.StringIO(), io.StringIO()
    assert write(everything, iter(rows)) == 1
    assert capsys.readouterr().err == (
        "not in this file, because they left one list only: 2 (give --list ID for those of one list)\n"
    )
    assert write(weekly, iter(rows), of_list="weekly") == 1
    assert "b@example.com" in weekly.getvalue()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "address", ["\x1b]0;title\x07a@example.com", "x\nvictim@example.com,0,hard_bounce@example.net"]
)
def test_an_address_can_neither_speak_to_a_terminal_nor_become_a_line(capsys, address):
    file = io.StringIO()
    assert write(file, iter([row(address), row("b@example.com", customer_id="=1+1\n")])) == 1
    assert file.getvalue().splitlines()[1:] == ["b@example.com,0,hard_bounce,Bounced,all,2026-11-10T10:00:00Z,=1+1?,"]
    assert capsys.readouterr().err.splitlines() == [
        "not in this file, because the address contains control characters: 1",
        "lines that begin like a formula: 1 (import the file; do not open it in a spreadsheet)",
    ]


def test_a_failed_export_leaves_the_former_file(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("the good list")

    def half(file: io.TextIOBase) -> None:
        file.write("half")
        raise OperateError("Athena: no")

    with pytest.raises(OperateError, match="Athena"), private_file(path) as file:
        half(file)
    assert path.read_text() == "the good list"
    assert [item.name for item in tmp_path.iterdir()] == ["list.csv"]


def test_a_file_with_addresses_is_private_and_replaces_a_link(tmp_path):
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "list.csv"
    elsewhere.write_text("of another")
    path.symlink_to(elsewhere)
    with private_file(path) as file:
        file.write("a@example.com")
    assert (elsewhere.read_text(), path.read_text()) == ("of another", "a@example.com")
    assert path.stat().st_mode & 0o777 == 0o600
    assert not path.is_symlink()


def test_it_says_what_it_waits_for_and_which_addresses_are_missing(monkeypatch, capsys):
    class Hashing:
        outputs = {"HashKeyArn": "the-arn"}  # noqa: RUF012

    monkeypatch.setattr(lists, "from_athena", lambda stack, sql: iter([]))
    options = {"output": None, "since": None, "subaccount": None, "account": None, "of_list": None}
    lists.export(Hashing(), **options, bird=False, postgres=None, schema="bird")
    assert capsys.readouterr().err.splitlines() == [
        "==> asking Athena; this may take minutes",
        "0 addresses",
        "addresses that HashFields has hashed are not in this list: find them in suppression_candidates",
    ]
