"""Quantize a GGUF of floats: `python -m hifi_ref.quantize --mixture=Q4_K_M SOURCE.gguf OUT.gguf`.

Every block is what hifi_ref.encode gives, so `check OUT.gguf --source=SOURCE.gguf` reproduces it.

    source           the model's files: one, or all shards of a split one
    importance       the matrix, and which of its entries count
    plan             what becomes of one tensor, and a new file laid out
    choices          the format of each matrix: one for all, a mix, or as the HIFI fork chooses
    in_formats       a new file by such a choice
    options          what llama-quantize can be asked for
    as_released      new files as llama-quantize writes them
    texts            metadata that llama-quantize does not pass on whole
    budget           the file type for a size
    assigned         files whose types are chosen tensor by tensor for the least error, or fixed
    assignment_file  what a user's FILE.json asks of that
    tensor_errors    what a tensor loses in a format
    answers          what such an error does to the model's answers
    protect          super weights kept
    journal          a file on its way: what of it is whole, and how to go on
    write            all tensors read once, encoded, and put in their places
    on_ray           the same on the nodes of a cluster
    summary          what became of each tensor
    card             a section of a model card
    arguments        the flags, and what they ask for
    command          the command line
"""
