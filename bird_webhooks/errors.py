"""What the program says in one line, rather than by a stack trace."""


class OperateError(Exception):
    """Something that the operator can act on, said in one line."""


class PostgresError(OperateError):
    """PostgreSQL refused a connection or a statement. The message holds no value of a row."""
