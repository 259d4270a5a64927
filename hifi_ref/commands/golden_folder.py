"""Where the golden vectors lie: beside the package in a checkout, inside it where it is installed."""

from __future__ import annotations

from pathlib import Path

import hifi_ref


def golden_folder() -> Path:
    """The folder. Raises FileNotFoundError where the package was installed without it."""
    package = Path(hifi_ref.__file__).resolve().parent
    for folder in (package.parent / "golden", package / "golden"):
        if (folder / "llama.cpp").is_dir():
            return folder
    raise FileNotFoundError(f"the golden vectors were not installed with {package}")
