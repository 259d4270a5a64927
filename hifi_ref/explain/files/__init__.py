"""Tensors and blocks of a GGUF file: what they look like, how far from their source, and from another quantization.

place     which tensor and block are meant;   survey    a tensor as numbers: steps, codes, outliers
errors    a tensor against its source;        expected  what the reference would have written
block     one block taken apart;              compared  two quantizations of one tensor
charts    pictures;                           page      all of these as parts
"""
