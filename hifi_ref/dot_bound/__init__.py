"""Dot products judged: the correctly rounded value, and how far from it a float32 kernel can honestly land.

**The true value** is the real number that the stored numbers mean: the sum of w[i] * a[i], where w[i] = d * q[i] and so
on is *not* rounded to float32. Activations can store sums besides their codes, for the share of a min:
Q8_1's s, a rounded number, is taken as given, because every kernel reads it; Q8_K's bsums must be the sums of its codes
(ValueError otherwise, unless d is 0), because some kernels read them and some add up the codes.

**The bound** holds for every kernel that

* takes a block apart without error, and adds products of codes in integers without overflow or saturation;
* makes at most n / 4 float32 terms of these integers (n / 16 with Q8_K; n in F32 F16 BF16), and one of a stored sum;
* multiplies a term, or a sum of terms, by the block's scales in any order, by at most three inexact products;
* adds the terms in any order, in any tree, with or without fused multiply-adds, in binary32 or better;
* rounds to nearest; what is below 2^-126, operand or result, it may flush to zero or not.

It may subtract a format's offset in the codes (q - 32 of Q6_K) or as a term of its own where activations store sums
(Q3_K Q6_K TQ1_0 TQ2_0; likewise the mins, and the shifts of IQ1); in Q4_0 Q5_0 Q2_0 only in the codes, or in the same
integer. It is not enough to look at the sums of whole sub-blocks: SIMD kernels keep lanes of four codes apart until the
end, and lanes can be large where their sum is 0. So all products count with their magnitude.

An activation's code of -128, which no encoder writes, has a true value too, but breaks the first assumption in SIMD
kernels that negate it as an int8.

**Proof.** u = 2^-24, T terms, K = 4: a term's conversion from an integer and three products. Every number on the way is
a subset sum v of the exact products, scaled to the result's units, plus an error e. A product passes through at most
L = h + K roundings, h <= T - 1 being the height of the tree of additions, hence |e| <= g A with g = L u / (1 - L u) and
A = sum of |products|. An operation rounds by at most u (|v| + g A), and what it rounds off reaches the result enlarged
by at most 1 + g. What is left is to add up |v| over all operations:

* additions: a subset sum lies between -N and P, the sums of the negative and of the positive products, so there are
  T - 1 times at most M = max(P, N) = (A + |true value|) / 2; or, level by level, at most h A;
* conversions and products: the numbers that take the same factor share no product, so at most A for each of the K.

    |kernel - true| <= u (1 + g) (min((T - 1) (M + g A), h (1 + g) A) + K (1 + g) A) + underflow

Underflow: an addition loses less than 2^-126. A product of scales that can fall below 2^-126 loses at most what it
stands for, twice over: 4 |products| of such blocks. Where float32 could overflow there is no bound: it is infinite.
The bound is evaluated in binary64 and enlarged by 2^-30, which is more than its own rounding.

**The HIFI fork's formats.** Their weights are the float32 numbers that decoding gives. Kernels may add decoded weights
times activations one by one, or the base's products and then each slot's (a value, a value minus the base's weight, a
correction): n terms and one a slot, K = 7, since such a term can have a difference and two more products. A counts all
that a slot touches: the base's weight twice, and what the slot brings. A kernel that does not round weights differs by
what decoding rounds off, which is added: u A, and where slots are up to s + 3 times that, s the slots of a block, for
their products and sums. With r this share, M is at most (A + |true value| + r) / 2. Where the fork's own dot product is
another than that of the decoded weights (docs/hifi.md), it may fall outside.

**What it catches.** The bound grows with n^2, the effect of a wrong code does not grow: judge what a kernel makes of
blocks on short rows, where one code off by one falls outside, and long rows with ``additions``.
tests/dot_bound/test_wrong_codes.py measures how often.

Source of the analysis: N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, sections 3.1 and 4.2.

    bound      the public functions, and the formula above
    terms      the exact terms of a row; outliers those of the HIFI fork's formats
    codes      weights as codes and offset
    parts      what the formula needs to know of a row, and arithmetic without error
    checks     what has a true value
"""

from hifi_ref.dot_bound.bound import DotBound, dot_exact, dot_fractions

__all__ = ["DotBound", "dot_exact", "dot_fractions"]
