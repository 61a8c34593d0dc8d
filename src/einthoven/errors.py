"""The one exception that is a message to the user, not a bug."""


class UserError(Exception):
    """A mistake in the input: one sentence that names what was found and what was expected.

    The command line prints the sentence without a traceback and exits with code 2.
    """
