"""Errors by what must be done about them. Their texts go to logs and the dead-letter queue, so they never hold a
value of a row."""


class PoisonError(Exception):
    """No later try can load this file."""


class NotNowError(Exception):
    """A later try may load it."""


class UnavailableError(NotNowError):
    """The database cannot be used at all, so other files should not be tried now."""


class ForeignObjectError(NotNowError):
    """Something else has a name that this application needs. It names it, and nothing of it is changed."""
