"""Environment variables: one prefix for all; the names of earlier versions go on working."""

import os

PREFIX = "FMNIST_STUDY_"
EARLIER = "FMNIST_"


def variable(name: str) -> tuple[str, str]:
    """Return the name and the value of the variable that is set; what is empty is not set.

    Args:
        name: without a prefix, such as `DATA_DIR`.

    Returns:
        The full name, that of earlier versions only where that alone is set; "" if none is.
    """
    for full in (PREFIX + name, EARLIER + name):
        if value := os.environ.get(full):
            return full, value
    return PREFIX + name, ""
