"""`python -m hifi_ref.imatrix ...`."""

import sys

from hifi_ref.imatrix.command import main

if __name__ == "__main__":
    sys.exit(main())
