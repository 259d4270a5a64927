"""The two lanes in which the format files run: the definition over NumPy arrays, and its acceleration by jax.

numpy_lane   the definition at work: chunks that fit a cache, on all cores
jax_lane     the same text compiled by XLA, and what keeps it exact
cores        how many threads do it
canary       whether a back end of jax computes as IEEE-754 asks
choose       which lane does work on NumPy arrays where nobody named one
speeds       what both lanes were measured to do
kept         what earlier processes have compiled, and where it lies
executables  executables of theirs, neither traced nor lowered again
checks       whether what a caller hands in makes sense
"""
