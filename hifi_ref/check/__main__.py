"""`python -m hifi_ref.check FILE.gguf ...`."""

import sys

from hifi_ref.check.command import main
from hifi_ref.commands.guarded import guarded

if __name__ == "__main__":
    sys.exit(guarded("check", main, sys.argv[1:]))
