"""Loss against bits, every scheme on the same weights: `python -m hifi_ref.sweep`.

weights           where weights come from: drawn numbers, .npy, GGUF, safetensors
configurations    what is compared: every scheme with its parameters and bits
losses            sums over weights, and the losses that follow from them
hyper             all configurations of Hyper-Quantization at once
one_by_one        any other: encode, decode, compare
measure           all of them over all weights, going on after an interruption
optimum           the least loss that a format's blocks can hold
frontier          what nothing beats, and what ggml lacks
claims            what Hyper-Quantization says, judged
result, report    what was found, as text and for programs
figures           what pictures show; page draws them for a browser, drawing for print
"""
