"""`python -m hifi_ref.check FILE.gguf ...`."""

import sys

from hifi_ref.check.command import main

if __name__ == "__main__":
    sys.exit(main())
