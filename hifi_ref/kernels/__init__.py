"""Matrix products on blocks: the formats' dot products, batched, for CPUs, GPUs and TPUs.

    matmul.py       the public function: checks, and the eight rooms that a product passes through
    compiled.py     its four steps: encode, choose, multiply, repair
    columns.py      which of the structures below takes a product, by back end and batch
    repair.py       columns that may have met a subnormal number, by NumPy
    structures.py   what passes between these files: plans, weights, activations, slots
    plans.py        one line a format: which of the functions below it takes
    split.py        both operands taken apart, rows last
    fields.py       a format's bytes -> its scales, mins and packed codes               (one function a format)
    slots.py        formats with outliers: what their slots add                         (one function a format)
    grid_steps.py   the codes of a grid as nibbles
    unpack.py       packed codes -> whole numbers in weight order
    order.py        whole sums -> float32 results, in the order of additions that the format defines
    gemm.py         the whole sums on a CPU: float32 matrix products of small integers, which are exact
    vec_dot.py      the whole sums in a Pallas kernel, whose codes planes.py packs; backends.py names its compiler
    places.py       the two formats whose dot product has no whole sums, on a CPU and in a kernel
    canary.py       whether a back end's kernels give the defined bits

Everything is cut into **groups** of 256 weights, 8 **runs** of 32: a super-block, or 8 blocks of 32. Arrays carry the
rows of the matrix on their last axis, which vector units and GEMMs want, and the groups on their first.
"""
