"""Write every copy of what is defined once. The one command after adding a column, a view, a type or an alarm.

python -m maintain.generate            write what differs from its source
python -m maintain.generate --check    only say what differs
"""

import argparse
import sys
from pathlib import Path

from maintain.check_template import ROOT, TEMPLATE
from maintain.generate import columns, columns_page, dashboards, events, settings_page, sql, template


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if anything differs")
    check = parser.parse_args().check
    problems = sql.problems()
    for path, text in generated().items():
        if path.exists() and path.read_text() == text:
            continue
        if check:
            problems.append(f"{path.relative_to(ROOT)} differs from its source: run `make generate`")
        else:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def generated() -> dict[Path, str]:
    """What each generated file should hold."""
    of_the_template = template.template(TEMPLATE.read_text())
    return {
        TEMPLATE: of_the_template,
        sql.BOUNCE_CLASSES_VIEW: sql.bounce_classes_sql(),
        **sql.by_message_queries(),
        sql.POSTGRES_VIEWS: sql.postgres_sql(),
        ROOT / "functions/load_postgres/columns.json": columns.postgres_columns(),
        ROOT / "functions/publish_events/columns.py": columns.publish_events_columns(),
        ROOT / "docs/settings.md": settings_page.page(of_the_template),
        ROOT / "docs/columns.md": columns_page.page(),
        **dashboards.files(),
        **{events.EVENTS / name: events.rendered(event) for name, event in events.invocation_events().items()},
    }


if __name__ == "__main__":
    sys.exit(main())
