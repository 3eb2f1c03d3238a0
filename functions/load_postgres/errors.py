"""What can go wrong with a file, by what has to be done about it. Messages go to logs and to the dead-letter queue:
they never hold a value of a row."""


class PoisonError(Exception):
    """No later try can load this file."""


class NotNowError(Exception):
    """A later try may load it."""


class UnavailableError(NotNowError):
    """The database cannot be used at all: no other file need be tried now."""
