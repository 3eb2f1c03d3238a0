"""Documents: links lead somewhere, commands and snippets are ones that their programs read, words are plain."""

import importlib
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import date
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

import boto3
import click
import hcl2
import pytest
import sqlglot
import yaml
from botocore import xform_name

from bird_webhooks.__main__ import parsed, parser
from local_aws.yaml_text import yaml_parse
from maintain.sar.generate import generate

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "events/README.md", ROOT / "releases/README.md"],
    key=str,
)
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in DOCUMENTS}
HISTORY = "CHANGELOG.md"  # what it says was so then


@pytest.fixture(scope="module")
def template():
    return yaml_parse((ROOT / "template.yaml").read_text())


# --- Pages and links -------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    without_code = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", TEXTS)
def test_every_link_leads_somewhere(document):
    astray = []
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[document]):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (ROOT / document).parent / name if name else ROOT / document
        if not path.exists() or (anchor and anchor not in anchors(path.read_text())):
            astray.append(target)
    assert astray == []


def test_every_page_is_in_the_index():
    linked = {(ROOT / "docs" / name).resolve() for name in re.findall(r"\]\(([^)#]+)", TEXTS["docs/README.md"])}
    assert [path for path in DOCUMENTS if path not in linked] == [ROOT / "docs/README.md"]


def test_readme_is_read_in_a_few_minutes():
    assert len(TEXTS["README.md"].splitlines()) <= 140


def tracked() -> list[str]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in names.split("\0") if name and (ROOT / name).is_file()]


def sources() -> list[str]:
    """What is written by hand besides documents and tests."""
    kinds = (".py", ".html", ".yaml", ".yml", ".sql", ".toml", "Makefile", "run")
    return [name for name in tracked() if name.endswith(kinds) and not name.startswith("tests/")]


def test_nothing_refers_to_a_file_that_is_not_here():
    """Only CI's script may: it uses this machine's container engine where there is one."""
    outside = re.compile(r"\bshared/|design, section|table of the design|structure-and-words|style\.md")
    found = []
    for name in tracked():
        if name in (".ci/run", "tests/unit/test_docs.py"):
            continue
        found += [name for line in (ROOT / name).read_text(errors="replace").splitlines() if outside.search(line)]
    assert found == []


def test_every_function_and_level_of_tests_is_described():
    functions = [path.parent.name for path in (ROOT / "functions").glob("*/app.py")]
    assert [name for name in functions if f"\n| `{name}` | " not in TEXTS["docs/architecture.md"]] == []
    assert [name for name in functions if f"\n  {name}/ " not in TEXTS["CONTRIBUTING.md"]] == []
    levels = [path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))]
    assert [name for name in levels if f"\n| {name} | " not in TEXTS["CONTRIBUTING.md"]] == []


def test_outputs_that_the_architecture_promises_are_there(template):
    [promised] = re.findall(r"Stable outputs: (.*?)\.\n", TEXTS["docs/architecture.md"], re.DOTALL)
    assert set(re.findall(r"`(\w+)`", promised)) <= template["Outputs"].keys()


def test_every_decision_has_its_date_and_its_group():
    text = TEXTS["docs/decisions.md"]
    entries = re.findall(r"^### (.+)\n(.*)$", text, re.MULTILINE)
    assert len(entries) > 70
    assert [title for title, first in entries if not re.match(r"\*\d{4}-\d\d-\d\d\.\* ", first)] == []
    for _, first in entries:
        date.fromisoformat(first[1:11])
    assert len({title for title, _ in entries}) == len(entries)
    groups = re.findall(r"^## (.+)$", text, re.MULTILINE)
    contents = re.findall(r"\(#([^)]+)\)", text.partition("\n## ")[0])
    assert [re.sub(r"[^\w -]", "", group.lower()).replace(" ", "-") for group in groups] == contents


def test_every_sample_event_is_played():
    """By name in a test, or as one of the events of a single type, which the demo sends."""
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = [path.stem for path in (ROOT / "events").glob("*.json") if "_event." not in path.stem]
    assert [name for name in names if f'"{name}' not in tests] == []


# --- Commands --------------------------------------------------------------------------------------------------------


class Command(NamedTuple):
    document: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {shlex.join(self.arguments)}"


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Document and text of each block of code, without its indent."""
    for document, text in TEXTS.items():
        for indent, block in re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE):
            yield document, "\n".join(line.removeprefix(indent) for line in block.splitlines())


def commands(program: str) -> list[Command]:
    """Each call of the program in a block of shell, also after a pipe, in `$(…)` or by xargs."""
    found = []
    for document, block in blocks("sh"):
        text = re.sub(r"(?m)(^|\s)#.*", "", block.replace("\\\n", " "))
        lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
        lexer.whitespace, lexer.commenters, lexer.whitespace_split = " ", "", True
        call: list[str] = []
        for word in [*lexer, ";"]:
            if word and set(word) <= set("();<>|&\n"):
                call = list(dropwhile(re.compile(r"\{|do|xargs|-[\w-]+|\d+|\w+=.*").fullmatch, call))
                if call[:1] == [program]:
                    found.append(Command(document, tuple(call[1:])))
                call = []
            else:
                call.append(word)
    return found


def mentions(program: str) -> list[Command]:
    """What a sentence calls by name, in part."""
    found = []
    for document, text in TEXTS.items():
        prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE).replace("\n", " ")
        if document != HISTORY:
            found += [Command(document, tuple(line.split())) for line in re.findall(rf"`{program} ([^`]+)`", prose)]
    return found


@pytest.mark.parametrize("document", sorted({document for document, _ in blocks("sh")}))
def test_shell_is_shell(document):
    for name, block in blocks("sh"):
        if name == document:
            subprocess.run(["bash", "-n"], input=re.sub(r"<[^<>\n]+>", "x", block), text=True, check=True)


def test_every_make_target_of_the_documents_exists():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [text for name, text in TEXTS.items() if name != HISTORY]
    named = {name for text in texts for name in re.findall(r"(?:`|^)make ([a-z0-9-]+)", text, re.MULTILINE)}
    assert len(named) > 15
    assert named - targets == set()


def test_what_programs_and_pages_say_to_type_exists():
    """In errors, help, comments and the report, whose readers have the program but no clone."""
    texts = [(ROOT / name).read_text() for name in sources()]
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = {target for text in texts for target in re.findall(r"(?:`|<code>)make ([a-z0-9-]+)", text)}
    assert {"generate", "local"} <= made <= targets
    page = (ROOT / "functions/report/page.html").read_text()
    said = re.findall(r"<code>([a-z-]+) ([^<]+)</code>", page)
    assert [program for program, _ in said] == ["bird-webhooks"] * 2
    for _, arguments in said:
        parsed(shlex.split(arguments))


def test_every_command_of_the_operators_program_is_in_its_document():
    [choices] = [action.choices for action in parser()._actions if action.dest == "command"]
    assert [name for name in choices if f"\n## {name}\n" not in TEXTS["docs/operating.md"]] == []


@pytest.mark.parametrize("command", commands("bird-webhooks"), ids=str)
def test_the_operators_program_reads_its_examples(command):
    if "--help" in command.arguments:
        with pytest.raises(SystemExit, match="0"):
            parsed([*command.arguments])
    else:
        parsed([*command.arguments])


@pytest.mark.parametrize("mention", mentions("bird-webhooks"), ids=str)
def test_what_a_sentence_names_of_the_operators_program_is_there(mention):
    [choices] = [action.choices for action in parser()._actions if action.dest == "command"]
    [command] = [word for word in mention.arguments if word in choices]
    options = {word for word in mention.arguments if word.startswith("--")}
    assert options <= {*parser()._option_string_actions, *choices[command]._option_string_actions}


def test_examples_are_found():
    assert len(commands("bird-webhooks")) > 40
    assert len(mentions("bird-webhooks")) > 10
    assert len(commands("aws")) > 15
    assert len(commands("sam")) > 8


@pytest.mark.parametrize("command", commands("sam"), ids=str)
def test_sam_reads_its_examples(command, template):
    """By the parser of each command of SAM CLI's, which is in this environment; nothing runs."""
    name, *arguments = command.arguments
    sam = importlib.import_module(f"samcli.commands.{name}.command").cli
    context = click.Context(sam)
    sam.make_parser(context).parse_args(list(arguments))
    named = {word.partition("=")[0] for word in arguments if re.match(r"[A-Z]\w+=", word)}
    assert named <= template["Parameters"].keys()


# The commands of the AWS CLI that are no operations of an API, with the options of theirs that the documents use.
HIGH_LEVEL = {
    ("s3", "cp"): {"recursive", "exclude"},
    ("s3", "rm"): {"recursive"},
    ("s3", "rb"): {"force"},
    ("cloudformation", "deploy"): {"template-file", "stack-name", "parameter-overrides", "capabilities"},
}
FOR_ALL = {"output", "query", "region", "profile", "cli-binary-format"}


@pytest.mark.parametrize("command", commands("aws"), ids=str)
def test_aws_has_the_operations_and_options_of_the_examples(command):
    """By botocore's models of the services, of which the AWS CLI makes its commands and options."""
    service, operation, *rest = command.arguments
    options = {word.removeprefix("--").partition("=")[0] for word in rest if word.startswith("--")}
    if (service, operation) in HIGH_LEVEL:
        known = HIGH_LEVEL[service, operation]
    else:
        service = {"s3api": "s3"}.get(service, service)
        model = boto3.client(service, region_name="eu-west-1").meta.service_model
        names = {xform_name(name, "-"): name for name in model.operation_names}
        shape = model.operation_model(names[operation]).input_shape
        known = {xform_name(member, "-") for member in shape.members}
    assert options - known - FOR_ALL == set()


# --- Snippets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("document", "block"), [*blocks("json")])
def test_json_is_json(document, block):
    for text in [block] if block.count("\n") else block.splitlines():
        json.loads(text)


@pytest.mark.parametrize(("document", "block"), [*blocks("sql")])
def test_sql_is_sql(document, block):
    named = re.match(r"-- (\w+)\n", block)  # where a page has several, each block says its own
    dialect = named[1].lower().replace("postgresql", "postgres") if named else "trino"
    dialect = "postgres" if document.endswith("postgresql.md") else dialect
    assert all(sqlglot.parse(block, dialect=dialect))


class Tagged(yaml.SafeLoader):
    """Takes CloudFormation's short intrinsics for what follows them."""


Tagged.add_multi_constructor("!", lambda loader, _suffix, node: node.value)


@pytest.mark.parametrize(("document", "block"), [*blocks("yaml")])
def test_yaml_is_yaml(document, block):
    assert yaml.load(block, Tagged).keys() & {"Resources"}  # noqa: S506  Tagged is a SafeLoader


@pytest.mark.parametrize(
    ("number", "kind", "capabilities"),
    [
        (
            0,
            "aws_serverlessapplicationrepository_cloudformation_stack",
            ["CAPABILITY_IAM", "CAPABILITY_RESOURCE_POLICY"],
        ),
        (1, "aws_cloudformation_stack", ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]),
    ],
)
def test_terraform_names_what_the_templates_have(template, number, kind, capabilities):
    text = [block for document, block in blocks("hcl") if document == "docs/terraform-and-cdk.md"][number]
    made = json.loads(json.dumps(hcl2.loads(text + "\n")).replace('\\"', ""))  # strings come with their quotes
    [resource] = made["resource"]
    assert list(resource) == [kind]
    [body] = resource[kind].values()
    assert body["capabilities"] == capabilities
    offered = (generate(template) if number == 0 else template)["Parameters"]
    assert body["parameters"]
    assert body["parameters"].keys() <= offered.keys()
    [output] = made["output"]
    [value] = re.findall(r"outputs\[(\w+)\]", output["webhook_url"]["value"])
    assert value in template["Outputs"]


# --- Words -----------------------------------------------------------------------------------------------------------


ODD = re.compile(r"\b(shall|mend(?:s|ed|ing)?|whoever|to no avail|anew|(?:alarms?|it|which) (?:rings?|rang))\b", re.I)


@pytest.mark.parametrize("document", [name for name in TEXTS if name != HISTORY])
def test_words_are_plain(document):
    """The rules of CONTRIBUTING.md, "Words", that a machine can hold."""
    assert ODD.findall(re.sub(r"^ *```.*?^ *```$|`[^`]*`", "", TEXTS[document], flags=re.DOTALL | re.MULTILINE)) == []


def test_words_of_the_template_and_the_programs_are_plain():
    """Descriptions, alarms, help, errors, comments."""
    found = {name: ODD.findall((ROOT / name).read_text()) for name in sources()}
    assert {name: words for name, words in found.items() if words} == {}
