"""Checkpoints of transformers, as convert_hf_to_gguf of llama.cpp v0.5.0 reads them.

checkpoint    a folder of safetensors as the tensors of a GGUF: what the others come together for
model         what config.json says
packed        weights that are quantized already: FP8, GPTQ, compressed-tensors, MXFP4
families      the table: what is done to the tensors of each family of architectures
common        steps that several of them share; special what is done for one alone
classes       which class of transformers is of which family
steps         the steps that the table is made of; fused those of fused projections
generated     tensors that no checkpoint holds
names         what the GGUF's tensors are called, and which are stacked
tensors       tensors as views of a memory map, of which only the rows that are asked for are read
"""
