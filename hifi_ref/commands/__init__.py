"""What the commands share.

command_line    exit codes, flags, one sentence for whatever goes wrong, and where reports go
pages           one look for their HTML pages
"""
