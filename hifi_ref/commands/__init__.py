"""What the commands share.

command_line    exit codes, flags, one sentence for whatever goes wrong, and where reports go
usage           their --help, made from their flags
terminal        tables, colour and progress
provenance      when a report was made, and by which versions
pages           one look for their HTML pages
golden_folder   where the golden vectors lie
"""
