"""SmoothQuant: outliers of activations moved into the weights, the model's function unchanged.

`python -m hifi_ref.smooth`. groups.py says which channels of a model can be scaled, seen.py what a text puts into
them, scales.py by how much, products.py what that does to quantized products; fold.py and write.py make the new model,
gain.py and report.py tell what it gains.

Reference: Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models.
"""
