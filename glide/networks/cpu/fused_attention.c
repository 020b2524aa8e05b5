/* The gradient of attention between few tokens: all data of one head fits into a core's cache, in float32.

   PyTorch keeps the scores in memory, or uses a kernel for long sequences, in which denormal numbers slow the processor
   down. fused.py defines what is computed. */

#include "fused.h"

#define LANES 16     /* columns of a product computed together, or twice as many: registers hold them */
#define ROWS 4       /* its rows computed together */
#define QUERIES 64   /* whose scores are in the cache together */
#define FAINT -66.0f /* exponent of 2 below which a share is 0: it is far below the rounding of the sum of the others */

/* ROWS x width of C (+)= A B: element (r, k) of A is at a[r * across + k * along]; B and C are stored row by row. */
INLINE void tile(const float *restrict a, size_t across, size_t along, const float *restrict b, size_t b_row,
                 float *restrict c, size_t c_row, size_t depth, const int width, int add) {
    float sums[ROWS][2 * LANES];
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < width; j++)
            sums[r][j] = add ? c[r * c_row + j] : 0.0f;
    for (size_t k = 0; k < depth; k++)
        for (int r = 0; r < ROWS; r++)
            for (int j = 0; j < width; j++)
                sums[r][j] += a[r * across + k * along] * b[k * b_row + j];
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < width; j++)
            c[r * c_row + j] = sums[r][j];
}

/* C (+)= A B; rows are a multiple of ROWS, columns of LANES. */
INLINE void product(const float *a, size_t across, size_t along, const float *b, size_t b_row, float *c, size_t c_row,
                    size_t rows, size_t columns, size_t depth, int add) {
    for (size_t r = 0; r < rows; r += ROWS) {
        size_t j = 0;
        for (; j + 2 * LANES <= columns; j += 2 * LANES)
            tile(a + r * across, across, along, b + j, b_row, c + r * c_row + j, c_row, depth, 2 * LANES, add);
        for (; j < columns; j += LANES)
            tile(a + r * across, across, along, b + j, b_row, c + r * c_row + j, c_row, depth, LANES, add);
    }
}

/* The data of one head of one picture, in float32; the M tokens are padded with zeros to a multiple of LANES. */
typedef struct {
    float *keys, *keys_transposed, *values_transposed, *dkeys, *dvalues; /* [M,d], [d,M], [d,M], [M,d], [M,d] */
    float *queries, *gradients, *dqueries;                       /* [QUERIES,d] */
    float *shares, *dshares;                                     /* [QUERIES,M] */
} Scratch;

static size_t tokens_of(const Attention *at) {
    return (size_t)((at->context + at->own + LANES - 1) / LANES * LANES);
}

static size_t scratch_size(const Attention *at) {
    const size_t d = (size_t)at->width, m = tokens_of(at);
    return (5 * m * d + 3 * QUERIES * d + 2 * QUERIES * m) * sizeof(float);
}

static Scratch scratch_in(float *memory, const Attention *at) {
    const size_t d = (size_t)at->width, m = tokens_of(at);
    Scratch s;
    s.keys = memory;
    s.keys_transposed = s.keys + m * d;
    s.values_transposed = s.keys_transposed + m * d;
    s.dkeys = s.values_transposed + m * d;
    s.dvalues = s.dkeys + m * d;
    s.queries = s.dvalues + m * d;
    s.gradients = s.queries + QUERIES * d;
    s.dqueries = s.gradients + QUERIES * d;
    s.shares = s.dqueries + QUERIES * d;
    s.dshares = s.shares + QUERIES * m;
    return s;
}

/* Copy rows of d numbers out of a tensor, and back. */
INLINE void rows_from(const void *x, size_t at, size_t row, size_t rows, size_t d, float *to, int half) {
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < d; i++)
            to[r * d + i] = get(x, at + r * row + i, half);
}

INLINE void rows_to(void *x, size_t at, size_t row, size_t rows, size_t d, const float *from, int half) {
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < d; i++)
            put(x, at + r * row + i, half, from[r * d + i]);
}

INLINE void transpose(const float *restrict x, float *restrict to, size_t rows, size_t d) {
    for (size_t i = 0; i < d; i++)
        for (size_t r = 0; r < rows; r++)
            to[i * rows + r] = x[r * d + i];
}

/* In place, for one query: scores -> softmax, and its gradients -> those of the scores; `seen` of m tokens count. */
INLINE void softmax_gradient(float *restrict p, float *restrict dp, size_t seen, size_t m, float scale) {
    float most = p[0], sum = 0.0f, mean = 0.0f;
    for (size_t j = 1; j < seen; j++)
        most = p[j] > most ? p[j] : most;
    for (size_t j = 0; j < seen; j++) {
        float t = 1.44269504f * scale * (p[j] - most);
        p[j] = t < FAINT ? 0.0f : power(t < FAINT ? FAINT : t);
        sum += p[j];
        mean += p[j] * dp[j];
    }
    mean /= sum;
    for (size_t j = 0; j < seen; j++) {
        p[j] /= sum;
        dp[j] = scale * p[j] * (dp[j] - mean);
    }
    for (size_t j = seen; j < m; j++)
        p[j] = dp[j] = 0.0f;
}

INLINE void head_of_type(const Attention *at, size_t n, size_t h, const void *g, const void *qkv, const void *context,
                         void *dqkv, void *dcontext, Scratch s, int half) {
    const size_t d = (size_t)at->width, c = (size_t)at->heads * d, m = tokens_of(at);
    const size_t queries = (size_t)at->queries, own = (size_t)at->own, before = (size_t)at->context;
    const size_t row = own ? 3 * c : c, first = n * (own ? own : queries) * row + h * d;
    const size_t context_row = (size_t)at->context_row, first_context = n * (size_t)at->context_stride + h * d;
    const float scale = 1.0f / sqrtf((float)d);
    float *values = s.dvalues; /* until the gradients take this memory */

    memset(s.keys, 0, m * d * sizeof(float));
    memset(values, 0, m * d * sizeof(float));
    rows_from(context, first_context, context_row, before, d, s.keys, half);
    rows_from(context, first_context + c, context_row, before, d, values, half);
    rows_from(qkv, first + c, row, own, d, s.keys + before * d, half);
    rows_from(qkv, first + 2 * c, row, own, d, values + before * d, half);
    transpose(s.keys, s.keys_transposed, m, d);
    transpose(values, s.values_transposed, m, d);
    memset(s.dkeys, 0, m * d * sizeof(float));
    memset(s.dvalues, 0, m * d * sizeof(float));

    for (size_t from = 0; from < queries; from += QUERIES) {
        const size_t here = queries - from < QUERIES ? queries - from : QUERIES, rows = (here + ROWS - 1) / ROWS * ROWS;
        rows_from(qkv, first + from * row, row, here, d, s.queries, half);
        rows_from(g, (n * queries + from) * c + h * d, c, here, d, s.gradients, half);
        memset(s.queries + here * d, 0, (rows - here) * d * sizeof(float));
        memset(s.gradients + here * d, 0, (rows - here) * d * sizeof(float));
        product(s.queries, d, 1, s.keys_transposed, m, s.shares, m, rows, m, d, 0);
        product(s.gradients, d, 1, s.values_transposed, m, s.dshares, m, rows, m, d, 0);
        for (size_t r = 0; r < rows; r++) {
            const size_t seen = at->causal && from + r < own ? from + r + 1 : own;
            softmax_gradient(s.shares + r * m, s.dshares + r * m, before + seen, m, scale);
        }
        product(s.dshares, m, 1, s.keys, d, s.dqueries, d, rows, d, m, 0);
        product(s.dshares, 1, m, s.queries, d, s.dkeys, d, m, d, rows, 1);
        product(s.shares, 1, m, s.gradients, d, s.dvalues, d, m, d, rows, 1);
        rows_to(dqkv, first + from * row, row, here, d, s.dqueries, half);
    }
    for (size_t r = queries; r < own; r++) /* these are no queries */
        for (size_t i = 0; i < d; i++)
            put(dqkv, first + r * row + i, half, 0.0f);
    rows_to(dqkv, first + c, row, own, d, s.dkeys + before * d, half);
    rows_to(dqkv, first + 2 * c, row, own, d, s.dvalues + before * d, half);
    rows_to(dcontext, (n * before) * 2 * c + h * d, 2 * c, before, d, s.dkeys, half);
    rows_to(dcontext, (n * before) * 2 * c + c + h * d, 2 * c, before, d, s.dvalues, half);
}

FAST static void head(const Attention *at, size_t n, size_t h, const void *g, const void *qkv, const void *context,
                      void *dqkv, void *dcontext, Scratch s) {
    if (at->half)
        head_of_type(at, n, h, g, qkv, context, dqkv, dcontext, s, 1);
    else
        head_of_type(at, n, h, g, qkv, context, dqkv, dcontext, s, 0);
}

/* The gradient g [N,queries,C] of the attention of the first tokens -> those of qkv [N,own,3C] and of the keys and
   values of the context [N,context,2C]; C is heads * width, width a multiple of LANES. With own = 0, qkv are the
   queries alone, [N,queries,C]. Returns 1 if memory is missing. */
int glide_attention_back(const Attention *at, const void *g, const void *qkv, const void *context, void *dqkv,
                         void *dcontext) {
    int failed = 0;
#pragma omp parallel reduction(|| : failed)
    {
        float *memory = aligned_alloc(64, (scratch_size(at) + 63) / 64 * 64);
        failed = !memory;
#pragma omp for collapse(2)
        for (int64_t n = 0; n < at->pictures; n++)
            for (int64_t h = 0; h < at->heads; h++)
                if (memory)
                    head(at, (size_t)n, (size_t)h, g, qkv, context, dqkv, dcontext, scratch_in(memory, at));
        free(memory);
    }
    return failed;
}
