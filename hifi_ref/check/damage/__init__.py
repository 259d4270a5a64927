"""Damage that shows without the source: what storage, transfer and memory do to a file, and no encoder does.

Data flows one way: a tensor -> its Survey and the outliers among its scales; all surveys -> findings.

    survey    one pass over a tensor: which pages hold one value only, and a fingerprint of every page
    edges     whether a run of bytes ends where pages do, and where nothing else does
    pages     pages that were lost, and pages that were written twice
    scales    scales, signs and weights that fit none of their neighbours
    tensors   whole tensors: all zero, or the copy of another
    find      the two calls: `Damage.look` at a tensor, and `Damage.conclude`

What is looked for, every threshold and where it comes from: docs/damage.md.
"""

from hifi_ref.check.damage.find import Damage

__all__ = ["Damage"]
