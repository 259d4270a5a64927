"""`python -m hifi_ref.ground ...`."""

import sys

from hifi_ref.ground.command import main

if __name__ == "__main__":
    sys.exit(main())
