"""A plain forward pass over GGUF language models, whose every logit has the bits of llama.cpp's.

>>> from hifi_ref import models
>>> ids = models.tokenize("model.gguf", b"Hello", special=True, parse=False)     # doctest: +SKIP
>>> models.logits("model.gguf", ids)                                             # doctest: +SKIP

A family of architectures is a file, llama.py or gemma.py; the mathematics that they share has one home each:
products.py, norms.py, rope.py, attention.py, feed_forward.py, functions.py, ends.py. docs/models.md says what was
verified.
"""

from hifi_ref.models.model import ModelError
from hifi_ref.models.run import imatrix, logits
from hifi_ref.models.tokens.tokenize import bos_of, tokenize

__all__ = ["ModelError", "bos_of", "imatrix", "logits", "tokenize"]
