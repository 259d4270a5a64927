"""`python -m hifi_ref.quantize ...`."""

from hifi_ref.commands.command_line import leave
from hifi_ref.quantize.command import main

if __name__ == "__main__":
    leave(main())
