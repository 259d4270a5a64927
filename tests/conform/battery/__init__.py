"""Bugs planted in plain C kernels, to see whether conform catches each and names it rightly.

    kernels.c       the kernels, a section an operation, written without a look at hifi_ref.known_bugs
    planted_*.py    the bugs: in which section, which text becomes which, and the words that a right diagnosis has
    run             compiles a kernel, asks it as conform does, and says what became of it

`python -m tests.conform.battery.run` runs all and prints the score.
"""
