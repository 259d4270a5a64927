"""The reference release: llama.cpp v0.5.0 as published for x86-64 Linux, the oracle of all tests and vectors.

    fetch      brings it through npm, verifies its digest, and keeps it
    release    calls its encoders, decoders and dot products
    quantizer  quantizes whole files, and tells which types it would give
    loader     tells whether it loads a file
    language_model  asks it for a model's ids, logits and graph nodes
    refusals   tells which rows its encoders refuse, by ending their process

`python -m reference` fetches it ahead of time and prints where it lies. HIFI_REF_CACHE moves the cache (default
~/.cache/hifi_ref). Anything that keeps it from being had is an error, never a skipped test.
"""
