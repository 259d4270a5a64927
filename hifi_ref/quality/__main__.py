"""`python -m hifi_ref.quality ...`."""

import sys

from hifi_ref.quality.command import main

if __name__ == "__main__":
    sys.exit(main())
