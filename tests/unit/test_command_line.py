"""The command line of `bird-webhooks`: one spelling everywhere, and wrong usage is refused before anything is done."""

import argparse
from datetime import UTC, date, datetime, timedelta

import pytest

from bird_webhooks.__main__ import main, parsed
from bird_webhooks.arguments import MAX_REPORT_DAYS, parser
from report.app import MAX_DAYS

COMMANDS = ["status", "verify", "batches", "replay", "redrive", "quarantine", "erase", "rotate", "accept"]
COMMANDS += ["close", "files", "completeness", "check-lake", "reload", "backfill"]
COMMANDS += ["list-export", "report", "import", "compare", "simulate"]
ADDRESS = ["--address", "name@example.com"]
# What a command cannot do without.
REQUIRED = {
    "replay": ["--since", "1h"],
    "erase": ADDRESS,
    "rotate": ["status"],
    "accept": ["status"],
    "close": ["--register"],
    "files": ["--since", "7d"],
    "reload": ["--since", "7d"],
    "backfill": ["--since", "7d"],
    "import": ["s3://old-bucket/prefix"],
    "compare": ["--with", "s3://old-bucket/prefix", "--since", "2d"],
}


def subcommands(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {
        name: made
        for action in of._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, made in action.choices.items()
    }


def test_there_are_these_commands():
    assert list(subcommands(parser())) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_the_stack_is_named_before_or_after_the_command(command):
    stack = ["--stack-name", "other", "--region", "eu-west-3", "--profile", "mine"]
    for given in ([*stack, command, *REQUIRED.get(command, [])], [command, *REQUIRED.get(command, []), *stack]):
        options = parsed(given)
        assert (options.stack_name, options.region, options.profile) == ("other", "eu-west-3", "mine")
    for given in (["--local", command], [command, "--local"]):
        assert parsed([*given, *REQUIRED.get(command, [])]).local


def test_a_step_of_rotate_and_the_link_of_report_take_the_stack_too():
    assert parsed(["rotate", "--stack-name", "other", "show"]).stack_name == "other"
    assert parsed(["rotate", "show", "--stack-name", "other"]).stack_name == "other"
    assert parsed(["report", "link", "--local", "--expires", "24"]).local


def test_what_answers_something_answers_in_json_too():
    commands = subcommands(parser())
    without = [name for name, made in commands.items() if "--json" not in made.format_help()]
    assert without == ["rotate", "accept", "list-export", "report"]  # whose answers are files, and steps
    steps = subcommands(commands["rotate"])
    assert [name for name, made in steps.items() if "--json" in made.format_help()] == ["show", "status"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: command"),
        (["dance"], "invalid choice: 'dance'"),
        (["batches", "--since", "yesterday"], "not a time: yesterday (give 30m, 2h or 3d ago, or 2026-11-24T10:30 in"),
        (["batches", "--since", "99999999999d"], "not a time: 99999999999d"),
        (["batches", "--since", "999999d"], "not a time: 999999d"),
        (["replay"], "which batches? give --since, --batch or --quarantined"),
        (["replay", "--since", "1h", "--force"], "--force is for batches named with --batch"),
        (["replay", "--since", "1h", "--limit", "0"], "not a positive whole number: 0"),
        (["close"], "close what? give --date, or --register"),
        (["close", "--date", "24.11.2026"], "not a date: 24.11.2026 (give 2026-11-24, or 7d ago)"),
        (["files"], "the following arguments are required: --since"),
        (["files", "--since", "99999999d"], "not a date: 99999999d"),
        (["files", "--since", "2026-11-24", "--until", "2026-11-23"], "--until is before --since"),
        (["check-lake", "--since", "2026-11-24", "--until", "2026-11-23"], "--until is before --since"),
        (["reload"], "the following arguments are required: --since"),
        (["reload", "--since", "2026-11-24", "--until", "2026-11-23"], "--until is before --since"),
        (["list-export", "--subaccount", "x"], "not a subaccount number: x"),
        (["list-export", "--account", "a b"], "not an account id: a b"),
        (["rotate", "finish", "--quiet", "2026-11-24"], "not a duration: 2026-11-24 (give 30m, 2h or 3d)"),
        (["report", "--days", "0"], "not a number of days from 1 to 90: 0"),
        (["report", "--days", "91"], "not a number of days from 1 to 90: 91"),
        (["report", "--until", "soon"], "not a date, `now` or `latest`: soon"),
        (["report", "link", "--expires", "169"], "not a number of hours from 1 to 168: 169"),
        (["--local", "status", "--region", "eu-west-1"], "--local is a stack of its own"),
        (["simulate"], "name the webhook with --local, --stack-name or --url"),
        (["simulate", "--local", "--batches", "0"], "not a positive whole number: 0"),
        (["simulate", "--local", "--connections", "0"], "not a positive whole number: 0"),
        (["simulate", "--local", "--rate", "0"], "not a number above 0: 0"),
        (["simulate", "--local", "--time-scale", "inf"], "not a number above 0: inf"),
        (["simulate", "--local", "--days", "-1"], "not a number above 0: -1"),
        (["simulate", "--local", "--sent-twice", "5"], "not a share from 0 to 1: 5"),
        (["simulate", "--local", "--start", "today"], "not a time: today"),
        (["simulate", "--local", "--wait", "nan"], "not a number of seconds, 0 or more: nan"),
        (["erase", *ADDRESS, "--forget", "name@example.com"], "not allowed with argument --address"),
        (["erase", *ADDRESS, "--settle", "-1"], "not a number of seconds, 0 or more: -1"),
        (["simulate", "--local", "--url", "https://example.com"], "--url is in place of a stack"),
    ],
)
def test_wrong_usage_is_refused(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_time_long_ago_or_of_another_zone():
    assert parsed(["batches", "--since", "2026-11-24"]).since == datetime(2026, 11, 24, tzinfo=UTC)
    assert parsed(["batches", "--since", "2026-11-24T10:30+02:00"]).since == datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
    # Files of rows and quarantined events lie under dates of UTC.
    assert parsed(["batches", "--since", "2026-11-24T00:00+02:00"]).since.date() == date(2026, 11, 23)
    assert datetime.now(UTC) - parsed(["batches", "--since", "2h"]).since < timedelta(hours=2, seconds=10)
    assert parsed(["rotate", "finish"]).quiet == timedelta(minutes=15)


def test_dates_are_named_one_by_one_or_together():
    days = [date(2026, 11, 23), date(2026, 11, 24), date(2026, 11, 25)]
    given = ["close", "--date", "2026-11-23", "--date", "2026-11-24", "2026-11-25"]
    assert parsed(given).date == days
    assert parsed(["close", "--register"]).date == []


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_can_complete_it(shell, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", shell])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in printed] == []


def test_the_report_is_as_long_as_the_function_makes_it_at_most():
    assert MAX_REPORT_DAYS == MAX_DAYS


def test_help_names_the_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert "exit codes:\n  0    done" in printed
    assert "  130  interrupted" in printed
