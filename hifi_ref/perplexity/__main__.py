"""`python -m hifi_ref.perplexity ...`."""

import sys

from hifi_ref.perplexity.command import main

if __name__ == "__main__":
    sys.exit(main())
