"""Quantize a GGUF of floats: `python -m hifi_ref.quantize (--hifi | --type=NAME | --fork=NAME) SOURCE.gguf OUT.gguf`.

Every block is what hifi_ref.encode gives, so `check OUT.gguf --source=SOURCE.gguf` reproduces it.

    choices     the format of each matrix: one for all, a mix, or as the HIFI fork chooses
    plan        what becomes of one tensor
    new_file    all tensors encoded, and the file written
    command     the command line
"""
