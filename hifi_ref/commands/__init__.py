"""What the commands share.

command_line    exit codes, flags, one sentence for whatever goes wrong, and where reports go
usage           their --help, made from their flags
terminal        tables, colour and progress
pages           one look for their HTML pages
"""
