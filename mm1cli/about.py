"""What this is, for whoever asks."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of


def version() -> str:
    """The version that is installed; "unknown" where mm1 runs from a folder that is not."""
    try:
        return version_of("mm1")
    except PackageNotFoundError:
        return "unknown"
