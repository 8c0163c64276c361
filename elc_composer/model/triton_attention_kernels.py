"""Triton kernels of disentangled attention, forward and backward; `triton_attention` launches them.

All three kinds of score share one scale and are added before it is applied: the position scores, looked up by bucket,
are the initial accumulator of the product of queries and keys. `TABLE`, `[2, H, B, T, BLOCK_R]`, holds them for all
buckets (zeros up to a power of two): each query with the positions' keys, then each key with the positions' queries.
"""

from __future__ import annotations

from typing import Any

try:
    import triton
    import triton.language as tl

    jit: Any = triton.jit
except ImportError:  # the functions below are then never called
    tl = None
    jit = staticmethod


@jit
def real_length(PADDING, T, BLOCK_T: tl.constexpr):
    """1 + the last position that is not padding; 0 if all are."""
    positions = tl.arange(0, BLOCK_T)
    padded = tl.load(PADDING + positions, mask=positions < T, other=1)
    return tl.max(tl.where(padded == 0, positions + 1, 0), axis=0)


@jit
def real_keys(PADDING, offs_n, length, HAS_PADDING: tl.constexpr):
    """`[N]` bool, True at real keys; `length` is at most T."""
    real = offs_n < length
    if HAS_PADDING:
        real = real & (tl.load(PADDING + offs_n, mask=real, other=1) == 0)
    return real


@jit
def position_bias(BY_QUERY, BY_KEY, BUCKETS, offs_m, offs_n, T, BLOCK_R: tl.constexpr):
    """`[M, N]` content-to-position plus position-to-content scores.

    Triton (3.3 and 3.6) lays the 32 lanes of a warp along the first dimension of these look-ups. Each table's row is
    therefore the second dimension: a warp reads one row, which is one or two cache lines, where it would read from 32
    rows otherwise. Content-to-position scores are transposed for it; the conversion to the matrix product's layout
    passes through shared memory in any case.
    """
    query = tl.minimum(offs_m, T - 1)
    key = tl.minimum(offs_n, T - 1)
    bucket = tl.load(BUCKETS + (query[None, :] - key[:, None] + T - 1))
    by_query = tl.load(BY_QUERY + (query[None, :] * BLOCK_R + bucket))
    bucket = tl.load(BUCKETS + (query[:, None] - key[None, :] + T - 1))
    by_key = tl.load(BY_KEY + (key[None, :] * BLOCK_R + bucket))
    return tl.trans(by_query).to(tl.float32) + by_key.to(tl.float32)


@jit
def kept(SEED, stream, offs_m, start_n, threshold, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Dropout's mask `[BLOCK_M, BLOCK_N]`: a function of seed, sequence and head, query and key alone.

    One call of the generator (Philox, 7 rounds, as in FlashAttention) gives 16 bits to each of eight keys. These are
    eight apart, as are the columns of a matrix product that one thread holds, so that no two threads draw the same.
    """
    row = offs_m[:, None] + tl.zeros([BLOCK_M, 8], tl.int32)
    group = tl.arange(0, 8)[None, :] + tl.zeros([BLOCK_M, 8], tl.int32) + start_n // 64 * 8
    r0, r1, r2, r3 = tl.philox(tl.load(SEED), row, group, row * 0 + stream, row * 0, 7)
    bits = low_bits(r0, threshold) | low_bits(r1, threshold) << 2
    bits = bits | low_bits(r2, threshold) << 4 | low_bits(r3, threshold) << 6
    spread = bits[:, None, :] >> (start_n // 8 % 8 + tl.arange(0, BLOCK_N // 8))[None, :, None]
    return tl.reshape((spread & 1) != 0, [BLOCK_M, BLOCK_N])


@jit
def low_bits(random, threshold):
    """Two decisions out of 32 random bits."""
    first = ((random & 0xFFFF).to(tl.int32) >= threshold).to(tl.int32)
    second = ((random >> 16).to(tl.int32) >= threshold).to(tl.int32)
    return first | second << 1


@jit
def bucket_one_hot(BUCKETS, first, T, BLOCK: tl.constexpr, BLOCK_R: tl.constexpr, DOT: tl.constexpr):
    """`[BLOCK, BLOCK_R]`: the bucket of distances `first`, `first + 1`, ...; zeros beyond the sequence."""
    distance = first + tl.arange(0, BLOCK)
    inside = (distance > -T) & (distance < T)
    bucket = tl.load(BUCKETS + (distance + T - 1), mask=inside, other=-1)
    return (bucket[:, None] == tl.arange(0, BLOCK_R)[None, :]).to(DOT)


@jit
def sum_by_bucket(
    d_s, d_table, BUCKETS, distance, T, SIGN: tl.constexpr, BLOCK: tl.constexpr, BLOCK_R: tl.constexpr,
    DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add the `[BLOCK, BLOCK]` tile's gradients to `d_table` `[BLOCK, BLOCK_R]`, each row's by their bucket.

    The bucket is a function of query - key, which is `distance` at the tile's corner; rows are queries (`SIGN` 1) or
    keys (-1). A rotation of each row makes a column hold two distances, BLOCK apart; a product with the one-hot buckets
    of each of the two then sums by bucket.
    """
    row = tl.arange(0, BLOCK)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    rotated = tl.gather(d_s, (row - SIGN * (column + 1)) & (BLOCK - 1), 1)
    first = column >= row if SIGN == 1 else column >= BLOCK - 1 - row
    near = bucket_one_hot(BUCKETS, distance - (BLOCK - 1), T, BLOCK, BLOCK_R, DOT)
    d_table = tl.dot(tl.where(first, rotated, 0.0).to(DOT), near, d_table, input_precision=PRECISION)
    far = bucket_one_hot(BUCKETS, distance + 1, T, BLOCK, BLOCK_R, DOT)
    return tl.dot(tl.where(first, 0.0, rotated).to(DOT), far, d_table, input_precision=PRECISION)


@jit
def forward_kernel(
    QK, V, TABLE, BUCKETS, PADDING, SEED, OUT, LSE, SAVED, MAXIMA, B, T, H, PADDED, scale_log2, threshold, keep_scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_T: tl.constexpr, HAS_PADDING: tl.constexpr, DROPOUT: tl.constexpr, SAVE: tl.constexpr, DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of queries of one head: online softmax over the keys.

    `scale_log2` scales scores for a softmax of base 2. A key is dropped if its 16 random bits are below `threshold`.
    `SAVE`, if not 0, is the block size of a backward pass that reads `SAVED` and `MAXIMA`, which are stored then:
    `triton_attention_saved_kernels` describes them.
    """
    blocks = tl.cdiv(T, BLOCK_M)
    block = tl.program_id(0) % blocks
    stream = tl.program_id(0) // blocks
    b = (stream // H).to(tl.int64)
    h = (stream % H).to(tl.int64)
    width = H * D
    BY_QUERY = TABLE + (h * B + b) * T * BLOCK_R
    BY_KEY = TABLE + ((h + H) * B + b) * T * BLOCK_R
    Q = QK + b * T * 2 * width + h * D
    V += b * T * width + h * D
    PADDING += b * T

    offs_m = block * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_d = tl.arange(0, BLOCK_D)
    in_m = (offs_m < T)[:, None] & (offs_d < D)[None, :]
    q = tl.load(Q + offs_m[:, None] * 2 * width + offs_d[None, :], mask=in_m, other=0.0).to(DOT)
    length = real_length(PADDING, T, BLOCK_T) if HAS_PADDING else T

    maximum = tl.full([BLOCK_M], -1e30, tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    if SAVE:
        SAVED += stream.to(tl.int64) * PADDED * PADDED
        MAXIMA += stream.to(tl.int64) * (PADDED // BLOCK_N) * PADDED
        # Whole blocks of the backward pass, which reads them.
        stop = tl.cdiv(length, SAVE) * SAVE
    else:
        stop = length
    for start_n in range(0, stop, BLOCK_N):
        offs_n = start_n + tl.arange(0, BLOCK_N)
        in_n = (offs_n < T)[:, None] & (offs_d < D)[None, :]
        k = tl.load(Q + width + offs_n[:, None] * 2 * width + offs_d[None, :], mask=in_n, other=0.0).to(DOT)
        s = position_bias(BY_QUERY, BY_KEY, BUCKETS, offs_m, offs_n, T, BLOCK_R)
        s = tl.dot(q, tl.trans(k), s, input_precision=PRECISION)
        s = tl.where(real_keys(PADDING, offs_n, length, HAS_PADDING)[None, :], s, float("-inf"))
        # A masked score is -inf, so that exp2 gives 0 however the compiler rounds `s * c - grown * c`. With a finite
        # number in its place, a fused multiply-add leaves a rounding error of 1e22 while no real key has been seen.
        # `maximum` starts finite, so that no difference of two infinities arises.
        grown = tl.maximum(maximum, tl.max(s, 1))
        shrink = tl.exp2((maximum - grown) * scale_log2)
        p = tl.exp2(s * scale_log2 - (grown * scale_log2)[:, None])
        total = total * shrink + tl.sum(p, 1)
        maximum = grown
        signed = p
        if DROPOUT:
            keep = kept(SEED, stream, offs_m, start_n, threshold, BLOCK_M, BLOCK_N)
            signed = tl.where(keep, p, -p)
            p = tl.where(keep, p, 0.0)
        if SAVE:
            tl.store(SAVED + offs_m[:, None] * PADDED + offs_n[None, :], signed.to(SAVED.dtype.element_ty))
            tl.store(MAXIMA + start_n // BLOCK_N * PADDED + offs_m, grown * scale_log2)
        v = tl.load(V + offs_n[:, None] * width + offs_d[None, :], mask=in_n, other=0.0).to(DOT)
        acc = tl.dot(p.to(DOT), v, acc * shrink[:, None], input_precision=PRECISION)

    # Without any real key (total 0) the output is 0 and the backward's probabilities are 0.
    some = total > 0
    acc = acc * tl.where(some, keep_scale / tl.where(some, total, 1.0), 0.0)[:, None]
    lse = tl.where(some, maximum * scale_log2 + tl.log2(tl.where(some, total, 1.0)), float("inf"))
    OUT += b * T * width + h * D
    tl.store(OUT + offs_m[:, None] * width + offs_d[None, :], acc.to(OUT.dtype.element_ty), mask=in_m)
    tl.store(LSE + stream.to(tl.int64) * T + offs_m, lse, mask=offs_m < T)


@jit
def query_gradient_kernel(
    QK, V, TABLE, POSITION, BUCKETS, PADDING, SEED, OUT, LSE, D_OUT, DELTA, D_QK, D_POSITION,
    B, T, H, scale, scale_log2, threshold, keep_scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK: tl.constexpr, BLOCK_T: tl.constexpr,
    HAS_PADDING: tl.constexpr, DROPOUT: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of queries of one head: their gradient, and this block's share of the key positions' gradient.

    Stores `DELTA` (`[B, H, T]`, the row sums of output times its gradient) for `key_gradient_kernel`.
    """
    blocks = tl.cdiv(T, BLOCK)
    block = tl.program_id(0) % blocks
    stream = tl.program_id(0) // blocks
    b = (stream // H).to(tl.int64)
    h = (stream % H).to(tl.int64)
    width = H * D
    BY_QUERY = TABLE + (h * B + b) * T * BLOCK_R
    BY_KEY = TABLE + ((h + H) * B + b) * T * BLOCK_R
    Q = QK + b * T * 2 * width + h * D
    V += b * T * width + h * D
    PADDING += b * T

    offs_m = block * BLOCK + tl.arange(0, BLOCK)
    offs_d = tl.arange(0, BLOCK_D)
    in_m = (offs_m < T)[:, None] & (offs_d < D)[None, :]
    q = tl.load(Q + offs_m[:, None] * 2 * width + offs_d[None, :], mask=in_m, other=0.0).to(DOT)
    at_m = b * T * width + h * D + offs_m[:, None] * width + offs_d[None, :]
    d_out = tl.load(D_OUT + at_m, mask=in_m, other=0.0)
    delta = tl.sum(tl.load(OUT + at_m, mask=in_m, other=0.0).to(tl.float32) * d_out.to(tl.float32), 1)
    d_out = d_out.to(DOT)
    of_row = stream.to(tl.int64) * T + offs_m
    tl.store(DELTA + of_row, delta, mask=offs_m < T)
    lse = tl.load(LSE + of_row, mask=offs_m < T, other=float("inf"))
    length = real_length(PADDING, T, BLOCK_T) if HAS_PADDING else T

    d_q = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    d_table = tl.zeros([BLOCK, BLOCK_R], tl.float32)
    for start_n in range(0, length, BLOCK):
        offs_n = start_n + tl.arange(0, BLOCK)
        in_n = (offs_n < T)[:, None] & (offs_d < D)[None, :]
        k = tl.load(Q + width + offs_n[:, None] * 2 * width + offs_d[None, :], mask=in_n, other=0.0).to(DOT)
        v = tl.load(V + offs_n[:, None] * width + offs_d[None, :], mask=in_n, other=0.0).to(DOT)
        s = position_bias(BY_QUERY, BY_KEY, BUCKETS, offs_m, offs_n, T, BLOCK_R)
        s = tl.dot(q, tl.trans(k), s, input_precision=PRECISION)
        p = tl.exp2(s * scale_log2 - lse[:, None])
        p = tl.where(real_keys(PADDING, offs_n, length, HAS_PADDING)[None, :], p, 0.0)
        d_p = tl.dot(d_out, tl.trans(v), input_precision=PRECISION)
        if DROPOUT:
            keep = kept(SEED, stream, offs_m, start_n, threshold, BLOCK, BLOCK)
            d_p = tl.where(keep, d_p * keep_scale, 0.0)
        d_s = (p * (d_p - delta[:, None])).to(DOT)
        d_q = tl.dot(d_s, k, d_q, input_precision=PRECISION)
        distance = block * BLOCK - start_n
        d_table = sum_by_bucket(d_s, d_table, BUCKETS, distance, T, 1, BLOCK, BLOCK_R, DOT, PRECISION)

    offs_r = tl.arange(0, BLOCK_R)
    in_r = (offs_d < D)[None, :] & (offs_r < BLOCK_R)[:, None]
    of_position = (h + H) * D + offs_r[:, None] * 2 * width + offs_d[None, :]
    key_position = tl.load(POSITION + of_position, mask=in_r, other=0.0).to(DOT)
    d_table = d_table.to(DOT)
    d_q = tl.dot(d_table, key_position, d_q, input_precision=PRECISION) * scale
    D_Q = D_QK + b * T * 2 * width + h * D
    tl.store(D_Q + offs_m[:, None] * 2 * width + offs_d[None, :], d_q.to(D_QK.dtype.element_ty), mask=in_m)
    d_position = tl.dot(tl.trans(d_table), q, input_precision=PRECISION) * scale
    D_POSITION += (b * blocks + block) * BLOCK_R * 2 * width
    tl.store(D_POSITION + of_position, d_position.to(D_POSITION.dtype.element_ty), mask=in_r)


@jit
def key_gradient_kernel(
    QK, V, TABLE, POSITION, BUCKETS, PADDING, SEED, LSE, D_OUT, DELTA, D_QK, D_V, D_POSITION,
    B, T, H, scale, scale_log2, threshold, keep_scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK: tl.constexpr, BLOCK_T: tl.constexpr,
    HAS_PADDING: tl.constexpr, DROPOUT: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of keys of one head: gradients of keys and values, and its share of the query positions' gradient.

    Tiles are `[queries, keys]`, as in the other kernels; products transpose them.
    """
    blocks = tl.cdiv(T, BLOCK)
    block = tl.program_id(0) % blocks
    stream = tl.program_id(0) // blocks
    b = (stream // H).to(tl.int64)
    h = (stream % H).to(tl.int64)
    width = H * D
    BY_QUERY = TABLE + (h * B + b) * T * BLOCK_R
    BY_KEY = TABLE + ((h + H) * B + b) * T * BLOCK_R
    Q = QK + b * T * 2 * width + h * D
    at_value = b * T * width + h * D
    PADDING += b * T

    offs_n = block * BLOCK + tl.arange(0, BLOCK)
    offs_d = tl.arange(0, BLOCK_D)
    in_n = (offs_n < T)[:, None] & (offs_d < D)[None, :]
    k = tl.load(Q + width + offs_n[:, None] * 2 * width + offs_d[None, :], mask=in_n, other=0.0).to(DOT)
    v = tl.load(V + at_value + offs_n[:, None] * width + offs_d[None, :], mask=in_n, other=0.0).to(DOT)
    length = real_length(PADDING, T, BLOCK_T) if HAS_PADDING else T
    real = real_keys(PADDING, offs_n, length, HAS_PADDING)

    d_k = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    d_v = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    d_table = tl.zeros([BLOCK, BLOCK_R], tl.float32)
    for start_m in range(0, tl.where(block * BLOCK < length, T, 0), BLOCK):
        offs_m = start_m + tl.arange(0, BLOCK)
        in_m = (offs_m < T)[:, None] & (offs_d < D)[None, :]
        q = tl.load(Q + offs_m[:, None] * 2 * width + offs_d[None, :], mask=in_m, other=0.0).to(DOT)
        d_out = tl.load(D_OUT + at_value + offs_m[:, None] * width + offs_d[None, :], mask=in_m, other=0.0).to(DOT)
        of_row = stream.to(tl.int64) * T + offs_m
        lse = tl.load(LSE + of_row, mask=offs_m < T, other=float("inf"))
        delta = tl.load(DELTA + of_row, mask=offs_m < T, other=0.0)
        s = position_bias(BY_QUERY, BY_KEY, BUCKETS, offs_m, offs_n, T, BLOCK_R)
        s = tl.dot(q, tl.trans(k), s, input_precision=PRECISION)
        p = tl.where(real[None, :], tl.exp2(s * scale_log2 - lse[:, None]), 0.0)
        d_p = tl.dot(d_out, tl.trans(v), input_precision=PRECISION)
        dropped = p
        if DROPOUT:
            keep = kept(SEED, stream, offs_m, block * BLOCK, threshold, BLOCK, BLOCK)
            dropped = tl.where(keep, p * keep_scale, 0.0)
            d_p = tl.where(keep, d_p * keep_scale, 0.0)
        d_v = tl.dot(tl.trans(dropped.to(DOT)), d_out, d_v, input_precision=PRECISION)
        d_s = tl.trans((p * (d_p - delta[:, None])).to(DOT))
        d_k = tl.dot(d_s, q, d_k, input_precision=PRECISION)
        distance = start_m - block * BLOCK
        d_table = sum_by_bucket(d_s, d_table, BUCKETS, distance, T, -1, BLOCK, BLOCK_R, DOT, PRECISION)

    offs_r = tl.arange(0, BLOCK_R)
    in_r = (offs_d < D)[None, :] & (offs_r < BLOCK_R)[:, None]
    of_position = h * D + offs_r[:, None] * 2 * width + offs_d[None, :]
    query_position = tl.load(POSITION + of_position, mask=in_r, other=0.0).to(DOT)
    d_table = d_table.to(DOT)
    d_k = tl.dot(d_table, query_position, d_k, input_precision=PRECISION) * scale
    D_K = D_QK + b * T * 2 * width + width + h * D
    tl.store(D_K + offs_n[:, None] * 2 * width + offs_d[None, :], d_k.to(D_QK.dtype.element_ty), mask=in_n)
    at_n = at_value + offs_n[:, None] * width + offs_d[None, :]
    tl.store(D_V + at_n, d_v.to(D_V.dtype.element_ty), mask=in_n)
    d_position = tl.dot(tl.trans(d_table), k, input_precision=PRECISION) * scale
    D_POSITION += (b * blocks + block) * BLOCK_R * 2 * width
    tl.store(D_POSITION + of_position, d_position.to(D_POSITION.dtype.element_ty), mask=in_r)
