"""`python -m hifi_ref.conform TARGET ...`."""

import sys

from hifi_ref.conform.command import main

if __name__ == "__main__":
    sys.exit(main())
