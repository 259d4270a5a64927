"""Quantize a GGUF of floats: `python -m hifi_ref.quantize FLAG SOURCE.gguf OUT.gguf`.

FLAG is one of --hifi, --type=NAME, --mixture=NAME and --fork=NAME.

Every block is what hifi_ref.encode gives, so `check OUT.gguf --source=SOURCE.gguf` reproduces it.

    choices     the format of each matrix: one for all, a mix, or as the HIFI fork chooses
    as_released the order of tensors and the metadata, as llama-quantize writes them
    plan        what becomes of one tensor
    new_file    all tensors encoded, and the file written
    command     the command line
"""
