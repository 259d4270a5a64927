"""`python -m hifi_ref.quantize ...`."""

import sys

from hifi_ref.quantize.command import main

if __name__ == "__main__":
    sys.exit(main())
