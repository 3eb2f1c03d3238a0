"""One role owns the table, its months and its views, whichever user is in the secret.

Secrets Manager's rotation alternates between a user and its clone, which is a member of the user's role and not the
other way round. What the clone made as itself, the user could not alter.
"""

import logging
from functools import partial

import psycopg
from psycopg.sql import SQL, Identifier

from load_postgres.schema import OUR_VIEW, Connection, quoted, with_short_locks

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

# The clone's name is the user's with this at its end.
# https://docs.aws.amazon.com/secretsmanager/latest/userguide/tutorials_rotation-alternating.html
CLONE = "_clone"
ROLES = """
SELECT r.rolname, r.oid = t.relowner, r.oid = n.nspowner, r.rolname || %(clone)s = session_user
FROM pg_roles r
LEFT JOIN pg_class t ON t.oid = to_regclass(%(events)s)
LEFT JOIN pg_namespace n ON n.oid = to_regnamespace(%(schema)s)
WHERE (r.oid IN (t.relowner, n.nspowner) OR r.rolname || %(clone)s = session_user)
  AND r.rolname <> session_user AND r.rolname !~ '^pg_' AND pg_has_role(session_user, r.oid, %(right)s)"""
OWNED = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relowner <> %(owner)s::regrole
  AND pg_has_role(session_user, c.relowner, 'MEMBER')
  AND (
    c.oid = to_regclass(%(events)s)
    OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(%(events)s))
    OR c.relkind IN ('v', 'r') AND obj_description(c.oid, 'pg_class') LIKE %(ours)s
  )"""


def take_role(connection: Connection, schema: str) -> None:
    """Act as the role that owns the objects, and hand it those of them that this user owns. Errors: psycopg.Error."""
    owner = owner_of(connection, schema)
    if owner is None:
        return
    names = {"events": quoted(connection, schema, "events"), "schema": quoted(connection, schema)}
    values = {**names, "owner": quoted(connection, owner), "ours": f"%{OUR_VIEW}"}
    for (name,) in connection.execute(OWNED, values).fetchall():
        hand_over(connection, schema, name, owner)
    connection.execute(SQL("SET ROLE {}").format(Identifier(owner)))


def hand_over(connection: Connection, schema: str, name: str, owner: str) -> None:
    """Errors: none; it is logged, and happens when this user connects again."""
    role = Identifier(owner)
    allow = SQL("GRANT CREATE, USAGE ON SCHEMA {} TO {}").format(Identifier(schema), role)
    give = SQL("ALTER TABLE {} OWNER TO {}").format(Identifier(schema, name), role)
    try:
        connection.execute(allow)  # the new owner needs it; no more than a warning if the schema is another role's
        with_short_locks(connection, partial(connection.execute, give))
    except psycopg.Error as error:
        logger.warning("owner not changed", extra={"table": name, "reason": type(error).__name__})


def owner_of(connection: Connection, schema: str) -> str | None:
    """The role to act as; None for the user itself.

    The table's owner, or the user whose clone this is, or the schema's owner, if this user is a member of it.
    """
    # Since 16 a membership may come without the right to SET ROLE.
    right = "SET" if connection.info.server_version >= 160000 else "MEMBER"
    names = {"events": quoted(connection, schema, "events"), "schema": quoted(connection, schema)}
    roles = connection.execute(ROLES, {**names, "clone": CLONE, "right": right}).fetchall()
    table = next((name for name, owns_table, _, _ in roles if owns_table), None)
    original = next((name for name, _, _, cloned in roles if cloned), None)
    of_schema = next((name for name, _, owns_schema, _ in roles if owns_schema), None)
    made = "SELECT pg_get_userbyid(relowner) = session_user FROM pg_class WHERE oid = to_regclass(%s)"
    mine = connection.execute(made, [names["events"]]).fetchall()
    if mine == [(False,)]:  # without membership, this user has the rights that its administrator gave it
        return table
    return original or (None if mine else of_schema)
