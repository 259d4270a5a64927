"""A plain forward pass over GGUF language models: with the bits of llama.cpp's logits, or fast.

>>> from hifi_ref import models
>>> ids = models.tokenize("model.gguf", b"Hello", special=True, parse=False)     # doctest: +SKIP
>>> models.logits("model.gguf", ids)                                             # doctest: +SKIP

A family of architectures is a file, llama.py or gemma.py, made of attention.py, feed_forward.py and ends.py; how each
of their steps is computed belongs to a mode: exact_mode.py (with functions.py, norms.py and rope.py) or fast_mode.py.
measures.py says what logits amount to. docs/models.md tells what was verified.
"""

from hifi_ref.models.model import ModelError
from hifi_ref.models.run import MODES, Importance, imatrix, logits, setting
from hifi_ref.models.tokens.tokenize import bos_of, tokenize

__all__ = ["MODES", "Importance", "ModelError", "bos_of", "imatrix", "logits", "setting", "tokenize"]
