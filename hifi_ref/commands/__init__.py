"""What the commands share: exit codes, flags, one sentence for whatever goes wrong, and where reports go."""
