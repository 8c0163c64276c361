"""Triton kernels of disentangled attention's backward pass that read the forward's probabilities.

For every score, `forward_kernel` stores exp2(score - maximum of its row so far), negative where dropout removes it; for
every block of keys, it stores those maxima in base 2 (`MAXIMA`, `[B, H, blocks, PADDED]`). With them, this pass needs
no scores, no look-ups and no random numbers. `SAVED` is `[B, H, PADDED, PADDED]`; PADDED is T up to whole blocks.
"""

from __future__ import annotations

from .triton_attention_kernels import jit, real_length, tl


@jit
def one_hot_kernel(BUCKETS, ONE_HOT, T, PADDED, BLOCK: tl.constexpr, BLOCK_R: tl.constexpr):
    """`ONE_HOT` `[2 PADDED, BLOCK_R]`: the bucket of the distances from 1 - PADDED on; zeros beyond the sequence."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    distance = row + 1 - PADDED
    bucket = tl.load(BUCKETS + (distance + T - 1), mask=(distance > -T) & (distance < T), other=-1)
    column = tl.arange(0, BLOCK_R)[None, :]
    # By way of float32: Triton's interpreter does not convert bool to bfloat16.
    found = (bucket[:, None] == column).to(tl.float32)
    tl.store(ONE_HOT + row[:, None] * BLOCK_R + column, found.to(ONE_HOT.dtype.element_ty))


@jit
def one_hot(ONE_HOT, first, PADDED, BLOCK: tl.constexpr, BLOCK_R: tl.constexpr, DOT: tl.constexpr):
    """`[BLOCK, BLOCK_R]`: the buckets of distances `first`, `first + 1`, ..."""
    row = first + PADDED - 1 + tl.arange(0, BLOCK)
    return tl.load(ONE_HOT + row[:, None] * BLOCK_R + tl.arange(0, BLOCK_R)[None, :]).to(DOT)


@jit
def rotated(d_s, SIGN: tl.constexpr, BLOCK: tl.constexpr):
    """The tile with each row rotated so that a column holds two distances, and where it holds the nearer of these.

    For a tile whose corner has the distance d, column c holds d - BLOCK + 1 + c and d + 1 + c. Rows are queries
    (`SIGN` 1) or keys (-1).
    """
    row = tl.arange(0, BLOCK)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    near = column >= row if SIGN == 1 else column >= BLOCK - 1 - row
    return tl.gather(d_s, (row - SIGN * (column + 1)) & (BLOCK - 1), 1), near


@jit
def row_factors(
    MAXIMA, lse, of_row, start_n, PADDED, keep_scale, BLOCK: tl.constexpr, BLOCK_N: tl.constexpr
):  # fmt: skip
    """For each query, what turns stored numbers into dropout's factor times probabilities: keys of the first block of
    the tile, and of the last; the forward's blocks have BLOCK, twice or half as many keys."""
    first = tl.exp2(tl.load(MAXIMA + start_n // BLOCK_N * PADDED + of_row) - lse) * keep_scale
    last = first
    if BLOCK_N < BLOCK:
        last = tl.exp2(tl.load(MAXIMA + (start_n // BLOCK_N + 1) * PADDED + of_row) - lse) * keep_scale
    return first, last


@jit
def saved_query_gradient_kernel(
    QK, V, POSITION, PADDING, SAVED, MAXIMA, ONE_HOT, OUT, LSE, D_OUT, DELTA, D_QK, D_POSITION,
    B, T, H, PADDED, scale, keep_scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_T: tl.constexpr, HAS_PADDING: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`query_gradient_kernel` from saved probabilities.

    Stores `DELTA` (`[B, H, T]`, the row sums of output times its gradient, over dropout's factor).
    """
    blocks = tl.cdiv(T, BLOCK)
    block = tl.program_id(0) % blocks
    stream = tl.program_id(0) // blocks
    b = (stream // H).to(tl.int64)
    h = (stream % H).to(tl.int64)
    width = H * D
    Q = QK + b * T * 2 * width + h * D
    V += b * T * width + h * D
    PADDING += b * T
    SAVED += stream.to(tl.int64) * PADDED * PADDED
    MAXIMA += stream.to(tl.int64) * (PADDED // BLOCK_N) * PADDED

    offs_m = block * BLOCK + tl.arange(0, BLOCK)
    offs_d = tl.arange(0, BLOCK_D)
    column = tl.arange(0, BLOCK)
    in_m = (offs_m < T)[:, None] & (offs_d < D)[None, :]
    at_m = b * T * width + h * D + offs_m[:, None] * width + offs_d[None, :]
    d_out = tl.load(D_OUT + at_m, mask=in_m, other=0.0)
    delta = tl.sum(tl.load(OUT + at_m, mask=in_m, other=0.0).to(tl.float32) * d_out.to(tl.float32), 1) / keep_scale
    d_out = d_out.to(DOT)
    of_row = stream.to(tl.int64) * T + offs_m
    tl.store(DELTA + of_row, delta, mask=offs_m < T)
    lse = tl.load(LSE + of_row, mask=offs_m < T, other=float("inf"))
    length = real_length(PADDING, T, BLOCK_T) if HAS_PADDING else T

    d_q = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    d_table = tl.zeros([BLOCK, BLOCK_R], tl.float32)
    earlier = tl.zeros([BLOCK, BLOCK], DOT)
    distance = block * BLOCK
    for start_n in range(0, length, BLOCK):
        offs_n = start_n + column
        in_n = (offs_n < T)[:, None] & (offs_d < D)[None, :]
        k = tl.load(Q + width + offs_n[:, None] * 2 * width + offs_d[None, :], mask=in_n, other=0.0).to(DOT)
        v = tl.load(V + offs_n[:, None] * width + offs_d[None, :], mask=in_n, other=0.0).to(DOT)
        saved = tl.load(SAVED + offs_m[:, None] * PADDED + offs_n[None, :]).to(tl.float32)
        first, last = row_factors(MAXIMA, lse, offs_m, start_n, PADDED, keep_scale, BLOCK, BLOCK_N)
        factor = first[:, None]
        if BLOCK_N < BLOCK:
            factor = tl.where((column < BLOCK_N)[None, :], factor, last[:, None])
        d_p = tl.dot(d_out, tl.trans(v), input_precision=PRECISION)
        d_s = tl.abs(saved) * factor * (tl.where(saved > 0, d_p, 0.0) - delta[:, None])
        d_s = d_s.to(DOT)
        d_q = tl.dot(d_s, k, d_q, input_precision=PRECISION)
        # The farther distances of this tile are the nearer ones of the tile before: one product sums both.
        distance = block * BLOCK - start_n
        turned, near = rotated(d_s, 1, BLOCK)
        both = tl.where(near, earlier, turned)
        buckets = one_hot(ONE_HOT, distance + 1, PADDED, BLOCK, BLOCK_R, DOT)
        d_table = tl.dot(both, buckets, d_table, input_precision=PRECISION)
        earlier = turned
    near = column[None, :] >= column[:, None]
    buckets = one_hot(ONE_HOT, distance - (BLOCK - 1), PADDED, BLOCK, BLOCK_R, DOT)
    d_table = tl.dot(tl.where(near, earlier, 0.0), buckets, d_table, input_precision=PRECISION)

    offs_r = tl.arange(0, BLOCK_R)
    in_r = (offs_d < D)[None, :] & (offs_r < BLOCK_R)[:, None]
    of_position = (h + H) * D + offs_r[:, None] * 2 * width + offs_d[None, :]
    key_position = tl.load(POSITION + of_position, mask=in_r, other=0.0).to(DOT)
    d_table = d_table.to(DOT)
    d_q = tl.dot(d_table, key_position, d_q, input_precision=PRECISION) * scale
    to_query = offs_m[:, None] * 2 * width + offs_d[None, :]
    tl.store(D_QK + b * T * 2 * width + h * D + to_query, d_q.to(D_QK.dtype.element_ty), mask=in_m)
    # Read here, not kept in registers during the loop, which does not need the queries.
    q = tl.load(Q + to_query, mask=in_m, other=0.0).to(DOT)
    d_position = tl.dot(tl.trans(d_table), q, input_precision=PRECISION) * scale
    D_POSITION += (b * blocks + block) * BLOCK_R * 2 * width
    tl.store(D_POSITION + of_position, d_position.to(D_POSITION.dtype.element_ty), mask=in_r)


@jit
def saved_key_gradient_kernel(
    QK, V, POSITION, PADDING, SAVED, MAXIMA, ONE_HOT, LSE, D_OUT, DELTA, D_QK, D_V, D_POSITION,
    B, T, H, PADDED, scale, keep_scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_T: tl.constexpr, HAS_PADDING: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`key_gradient_kernel` from saved probabilities."""
    blocks = tl.cdiv(T, BLOCK)
    block = tl.program_id(0) % blocks
    stream = tl.program_id(0) // blocks
    b = (stream // H).to(tl.int64)
    h = (stream % H).to(tl.int64)
    width = H * D
    Q = QK + b * T * 2 * width + h * D
    at_value = b * T * width + h * D
    PADDING += b * T
    SAVED += stream.to(tl.int64) * PADDED * PADDED
    MAXIMA += stream.to(tl.int64) * (PADDED // BLOCK_N) * PADDED

    column = tl.arange(0, BLOCK)
    offs_n = block * BLOCK + column
    offs_d = tl.arange(0, BLOCK_D)
    in_n = (offs_n < T)[:, None] & (offs_d < D)[None, :]
    to_value = at_value + offs_n[:, None] * width + offs_d[None, :]
    v = tl.load(V + to_value, mask=in_n, other=0.0).to(DOT)
    length = real_length(PADDING, T, BLOCK_T) if HAS_PADDING else T

    d_k = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    d_v = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    d_table = tl.zeros([BLOCK, BLOCK_R], tl.float32)
    earlier = tl.zeros([BLOCK, BLOCK], DOT)
    distance = -block * BLOCK
    for start_m in range(0, tl.where(block * BLOCK < length, T, 0), BLOCK):
        offs_m = start_m + column
        in_m = (offs_m < T)[:, None] & (offs_d < D)[None, :]
        q = tl.load(Q + offs_m[:, None] * 2 * width + offs_d[None, :], mask=in_m, other=0.0).to(DOT)
        d_out = tl.load(D_OUT + at_value + offs_m[:, None] * width + offs_d[None, :], mask=in_m, other=0.0).to(DOT)
        of_row = stream.to(tl.int64) * T + offs_m
        lse = tl.load(LSE + of_row, mask=offs_m < T, other=float("inf"))
        delta = tl.load(DELTA + of_row, mask=offs_m < T, other=0.0)
        saved = tl.load(SAVED + offs_m[:, None] * PADDED + offs_n[None, :]).to(tl.float32)
        first, last = row_factors(MAXIMA, lse, offs_m, block * BLOCK, PADDED, keep_scale, BLOCK, BLOCK_N)
        factor = first[:, None]
        if BLOCK_N < BLOCK:
            factor = tl.where((column < BLOCK_N)[None, :], factor, last[:, None])
        p = saved * factor
        dropped = tl.where(saved > 0, p, 0.0).to(DOT)
        d_v = tl.dot(tl.trans(dropped), d_out, d_v, input_precision=PRECISION)
        d_p = tl.dot(d_out, tl.trans(v), input_precision=PRECISION)
        d_s = (tl.abs(p) * (tl.where(saved > 0, d_p, 0.0) - delta[:, None])).to(DOT)
        d_s = tl.trans(d_s)
        d_k = tl.dot(d_s, q, d_k, input_precision=PRECISION)
        # The nearer distances of this tile are the farther ones of the tile before: one product sums both.
        distance = start_m - block * BLOCK
        turned, near = rotated(d_s, -1, BLOCK)
        both = tl.where(near, turned, earlier)
        buckets = one_hot(ONE_HOT, distance - (BLOCK - 1), PADDED, BLOCK, BLOCK_R, DOT)
        d_table = tl.dot(both, buckets, d_table, input_precision=PRECISION)
        earlier = turned
    near = column[None, :] >= BLOCK - 1 - column[:, None]
    buckets = one_hot(ONE_HOT, distance + 1, PADDED, BLOCK, BLOCK_R, DOT)
    d_table = tl.dot(tl.where(near, 0.0, earlier), buckets, d_table, input_precision=PRECISION)

    offs_r = tl.arange(0, BLOCK_R)
    in_r = (offs_d < D)[None, :] & (offs_r < BLOCK_R)[:, None]
    of_position = h * D + offs_r[:, None] * 2 * width + offs_d[None, :]
    query_position = tl.load(POSITION + of_position, mask=in_r, other=0.0).to(DOT)
    d_table = d_table.to(DOT)
    d_k = tl.dot(d_table, query_position, d_k, input_precision=PRECISION) * scale
    to_key = width + offs_n[:, None] * 2 * width + offs_d[None, :]
    tl.store(D_QK + b * T * 2 * width + h * D + to_key, d_k.to(D_QK.dtype.element_ty), mask=in_n)
    tl.store(D_V + to_value, d_v.to(D_V.dtype.element_ty), mask=in_n)
    # Read here, not kept in registers during the loop, which does not need the keys.
    k = tl.load(Q + to_key, mask=in_n, other=0.0).to(DOT)
    d_position = tl.dot(tl.trans(d_table), k, input_precision=PRECISION) * scale
    D_POSITION += (b * blocks + block) * BLOCK_R * 2 * width
    tl.store(D_POSITION + of_position, d_position.to(D_POSITION.dtype.element_ty), mask=in_r)
