"""`python -m hifi_ref.explain ...`."""

import sys

from hifi_ref.commands.guarded import guarded
from hifi_ref.explain.command import main

if __name__ == "__main__":
    sys.exit(guarded("explain", main, sys.argv[1:]))
