"""The one base class of errors that a user can cause and mend."""


class UserError(Exception):
    """A mistake in what was given: said in one line, without a traceback, exit code 2.

    The message names what was given and what is valid.
    """


def choose(what: str, given: object, valid: object) -> str:
    """Word a message about a wrong choice: `pooling = 'median': choose from avg, max`."""
    names = ", ".join(str(name) for name in valid) if isinstance(valid, (list, tuple)) else valid
    return f"{what} = {given!r}: choose from {names}"
