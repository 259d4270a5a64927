"""Matrix products on blocks: the formats' dot products, batched, for CPUs, GPUs and TPUs.

    fields.py    a format's bytes -> its scales, mins and packed codes, rows last         (one function a format)
    slots.py     formats with outliers: what their slots add                              (one function a format)
    unpack.py    packed codes -> whole numbers in weight order
    order.py     whole sums -> float32 results, in the order of additions that the format defines
    plans.py     one line a format: which of the functions above it takes
    gemm.py      the whole sums on a CPU: float32 matrix products of small integers, which are exact
    vec_dot.py   the whole sums in a Pallas kernel; backends.py names the back end that compiles it
    places.py    the two formats whose dot product has no whole sums, on a CPU and in a kernel
    canary.py    whether a back end's kernels give the defined bits
    columns.py   which of these structures takes a product, by back end and batch
    matmul.py    the public function

Everything is cut into **groups** of 256 weights, 8 **runs** of 32: a super-block, or 8 blocks of 32. Arrays carry the
rows of the matrix on their last axis, which vector units and GEMMs want, and the groups on their first.
"""
