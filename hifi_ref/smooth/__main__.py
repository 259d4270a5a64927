"""`python -m hifi_ref.smooth ...`."""

import sys

from hifi_ref.smooth.command import main

if __name__ == "__main__":
    sys.exit(main())
