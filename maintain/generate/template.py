"""template.yaml with its generated parts written again: two patterns of parameters, and all that follows the banner."""

import json
import re

from local_aws.yaml_text import yaml_parse
from maintain.generate import columns, sql
from maintain.generate.dashboard import dashboard

BANNER = re.compile(r"^  # --- Generated:.*\n(?:  #.*\n)*", re.MULTILINE)


def template(text: str) -> str:
    """The whole template; `text` is today's, of which the part that people write stays as it is."""
    banner = BANNER.search(text)
    if not banner:
        raise SystemExit("template.yaml: the banner before the generated resources is gone")
    written = with_pattern(text[: banner.end()], "DropFields", columns.droppable_pattern())
    written = with_pattern(written, "HashFields", columns.hashable_pattern())
    generated = [
        columns.events_table(),
        columns.deduplicated_view(),
        sql.verdicts_resource(),
        *map(sql.view_resource, sql.views()),
        *map(sql.query_resource, sql.queries()),
        dashboard(yaml_parse(written)["Resources"]),
    ]
    return written + "".join("\n" + indented(lines) for lines in generated)


def with_pattern(text: str, parameter: str, pattern: str) -> str:
    """The text with this AllowedPattern of that parameter."""
    found = re.search(rf"^  {parameter}:\n(?:    .*\n)*?    AllowedPattern: ", text, re.MULTILINE)
    if not found:
        raise SystemExit(f"template.yaml: the parameter {parameter} has no AllowedPattern")
    return text[: found.end()] + json.dumps(pattern) + text[text.index("\n", found.end()) :]


def indented(lines: list[str]) -> str:
    return "".join(f"  {line}".rstrip() + "\n" for line in lines)
