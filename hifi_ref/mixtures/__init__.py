"""Which type each tensor of a model takes: pure functions of metadata, names and shapes.

llama_quantize    what llama-quantize of the release gives every tensor of a model, for each of its file types
rules             its rules for one tensor: more bits for some layers, kinds of tensors and shapes of models
model             what these rules ask of a model, read from a GGUF
kept              the tensors that it never quantizes
rows              what takes the place of a type whose blocks do not fill a row
hifi              the rules of the HIFI fork's file types
roadmaps          the mixes that the fork's roadmaps planned, and it did not follow
web_rwkv          the mixture that web-rwkv's fork plans, with sizes
assignments       what names such as balanced ask for, and rules of other programs
knapsack          types with the least error at a size: an exact optimum with its bound
"""
