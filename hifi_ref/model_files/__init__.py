"""Reading and writing the files that models come in. Whatever is wrong with one ends in a sentence.

gguf_file         a GGUF, mapped and parsed: gguf_header reads, gguf_place holds the tensors against each other
gguf_model        what is then known of it
gguf_write        what stands before the data of a new one
models            which files are meant, and which of them are one model
dialects          what type ids stand for, in llama.cpp and its forks; tensor_types what one of them says
resolve_dialect   which dialect a file is written in
file_types        the names that general.file_type stands for
source            weights that a file may have been made from: GGUF, or safetensors_file; weights is one tensor of them
hugging_face      safetensors as the converter of llama.cpp reads them: a room of its own
imatrix           importance, in both of its forms
context           what an encoder was given besides the weights
remote            files at an address, fetched in ranges; remote_copy fetches sources whole
files             files that cannot be used, and files that replace others
"""
