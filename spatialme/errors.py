"""What can go wrong with what a user gave us. Each message is one line: the value, what was expected, what to do."""


class SpatialmeError(Exception):
    """Base of all errors that a user can mend; the command line prints the message alone and exits with 2."""


class InputError(SpatialmeError):
    """The input cannot be read, or is not what it claims to be."""


class OutputError(SpatialmeError):
    """The output cannot be written, or would overwrite something."""


class OptionError(SpatialmeError):
    """An option has a value outside its range, or two options contradict each other."""


class WeightsError(SpatialmeError):
    """Network weights are missing, damaged or not allowed under the chosen licence."""
