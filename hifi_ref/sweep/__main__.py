"""`python -m hifi_ref.sweep ...`."""

import sys

from hifi_ref.sweep.command import main

if __name__ == "__main__":
    sys.exit(main())
