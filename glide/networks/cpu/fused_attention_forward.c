/* Attention without gradients, of many tokens too: keys and values of one head are packed once for many queries.

   PyTorch's kernel goes through the keys in short parts, and reaches a third of what these processors multiply. Here
   the scores of a few queries to all keys are in the cache together. A query's result depends on no other query.
   fused.py defines what is computed. */

#include "fused.h"

#include <omp.h>

#if defined(__x86_64__)

#define VECTORS 2    /* of each of ROWS queries, whose products are in registers together */
#define ROWS 6
#define PANEL 32     /* VECTORS of the longest kind: tokens are padded to a multiple of it */
#define BLOCK 48     /* queries whose scores are in the cache together, at most; a multiple of ROWS */
#define SCORES 49152 /* their number, at most, where that leaves ROWS queries: 192 KiB */
#define PART 192     /* queries of a unit of work of the threads, at least */
#define UNITS 4      /* of work for each thread, where that many do not make parts smaller than PART */
#define EVERY _Pragma("GCC unroll 8") /* without loops the sums stay in registers */

typedef int32_t Cell __attribute__((may_alias));

/* Of one head. A cell is a float, or with `pairs` two neighbouring bfloat16 of a sum, which one instruction multiplies.
   m: tokens, padded with zeros to a multiple of PANEL. panel: VECTORS vectors. */
typedef struct {
    float *keys;   /* [m / panel][d cells][panel] */
    float *values; /* [m cells][d] */
    float *queries, *result;  /* [BLOCK][d cells], [BLOCK][d] */
    float *scores;            /* [BLOCK][m] */
    uint16_t *shares;         /* the same in bfloat16, with pairs */
} Scratch;

INLINE size_t up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

static size_t tokens_of(const Attention *at) {
    return up((size_t)(at->context + at->own), PANEL);
}

/* Queries in a block: as many as SCORES allows, and a multiple of ROWS. */
static size_t block_of(size_t m) {
    size_t rows = SCORES / m / ROWS * ROWS;
    return rows < ROWS ? ROWS : rows > BLOCK ? BLOCK : rows;
}

static size_t scratch_size(const Attention *at) {
    const size_t d = (size_t)at->width, m = tokens_of(at), rows = block_of(m);
    return (2 * m * d + 2 * rows * d + rows * m + rows * m / 2) * sizeof(float);
}

static Scratch scratch_in(float *memory, const Attention *at) {
    const size_t d = (size_t)at->width, m = tokens_of(at), rows = block_of(m);
    Scratch s;
    s.keys = memory;
    s.values = s.keys + m * d;
    s.queries = s.values + m * d;
    s.result = s.queries + rows * d;
    s.scores = s.result + rows * d;
    s.shares = (uint16_t *)(s.scores + rows * m);
    return s;
}

/* sum += a b, of each of the cells. */
#define PLUS(sum, a, b) (sum) += (a) * (b)
#define PLUS_PAIRS(sum, a, b) __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))

/* A function for ROWS rows of C = A B, of `vectors` vectors: A [ROWS][depth] and B [depth][.] are cells, C are floats.
   A cell is put into a whole vector by its bits, as it may be two numbers. */
#define TILE(name, bytes, plus)                                                                                     \
    INLINE void name(const float *a, size_t a_row, const float *b, size_t b_row, float *c, size_t c_row,            \
                     size_t depth, const int vectors) {                                                             \
        typedef float Vector __attribute__((vector_size(bytes), aligned(4), may_alias));                            \
        typedef int32_t Bits __attribute__((vector_size(bytes)));                                                   \
        const size_t lanes = bytes / 4;                                                                             \
        Vector sums[ROWS][VECTORS], columns[VECTORS];                                                               \
        EVERY for (int r = 0; r < ROWS; r++)                                                                        \
            EVERY for (int v = 0; v < vectors; v++)                                                                 \
                sums[r][v] = (Vector){0};                                                                           \
        for (size_t k = 0; k < depth; k++) {                                                                        \
            EVERY for (int v = 0; v < vectors; v++)                                                                 \
                columns[v] = *(const Vector *)(b + k * b_row + v * lanes);                                          \
            EVERY for (int r = 0; r < ROWS; r++) {                                                                  \
                const Vector row = (Vector)((Bits){0} + *(const Cell *)(a + r * a_row + k));                        \
                EVERY for (int v = 0; v < vectors; v++)                                                             \
                    plus(sums[r][v], row, columns[v]);                                                              \
            }                                                                                                       \
        }                                                                                                           \
        EVERY for (int r = 0; r < ROWS; r++)                                                                        \
            EVERY for (int v = 0; v < vectors; v++)                                                                 \
                *(Vector *)(c + r * c_row + v * lanes) = sums[r][v];                                                \
    }

TILE(tile_of_256, 32, PLUS)
TILE(tile_of_512, 64, PLUS)
TILE(tile_of_pairs, 64, PLUS_PAIRS)

INLINE void tile(const float *a, size_t a_row, const float *b, size_t b_row, float *c, size_t c_row, size_t depth,
                 const int vectors, const size_t lanes, const int pairs) {
    if (pairs)
        tile_of_pairs(a, a_row, b, b_row, c, c_row, depth, vectors);
    else if (lanes == 16)
        tile_of_512(a, a_row, b, b_row, c, c_row, depth, vectors);
    else
        tile_of_256(a, a_row, b, b_row, c, c_row, depth, vectors);
}

/* From one token of qkv to the next; with own = 0 they are queries alone. */
INLINE size_t row_of(const Attention *at) {
    return (size_t)(at->heads * at->width) * (at->own ? 3 : 1);
}

/* Where token j of picture n begins: in the context, or in the sequence's own. */
INLINE size_t place(const Attention *at, size_t n, size_t j) {
    const size_t before = (size_t)at->context;
    return j < before ? n * (size_t)at->context_stride + j * (size_t)at->context_row
                      : (n * (size_t)at->own + j - before) * row_of(at);
}

INLINE void pack_keys(const Attention *at, size_t n, size_t h, const void *qkv, const void *context, float *to,
                      const size_t panel, const int pairs, const int half) {
    const size_t d = (size_t)at->width, c = (size_t)at->heads * d, all = (size_t)(at->context + at->own);
    const size_t m = tokens_of(at), depth = pairs ? d / 2 : d;
    for (size_t j = 0; j < m; j++) {
        float *column = to + j / panel * panel * depth + j % panel;
        const int own = j >= (size_t)at->context, known = j < all;
        const size_t from = known ? place(at, n, j) + (own ? c : 0) + h * d : 0;
        const void *x = own ? qkv : context;
        for (size_t k = 0; k < depth; k++)
            if (!known)
                column[k * panel] = 0.0f;
            else if (pairs)
                memcpy(column + k * panel, (const uint16_t *)x + from + 2 * k, 4);
            else
                column[k * panel] = get(x, from + k, half);
    }
}

INLINE void pack_values(const Attention *at, size_t n, size_t h, const void *qkv, const void *context, float *to,
                        const int pairs, const int half) {
    const size_t d = (size_t)at->width, c = (size_t)at->heads * d, all = (size_t)(at->context + at->own);
    const size_t m = tokens_of(at);
    memset(to, 0, m * d * sizeof(float) / (pairs ? 2 : 1));
    for (size_t j = 0; j < all; j++) {
        const int own = j >= (size_t)at->context;
        const size_t from = place(at, n, j) + (own ? 2 * c : c) + h * d;
        const void *x = own ? qkv : context;
        if (pairs)
            for (size_t i = 0; i < d; i++)
                ((uint16_t *)to)[2 * (j / 2 * d + i) + j % 2] = ((const uint16_t *)x)[from + i];
        else
            for (size_t i = 0; i < d; i++)
                to[j * d + i] = get(x, from + i, half);
    }
}

/* Scores of one query -> exp(scale (score - the largest)), and their sum; `seen` of m tokens count. */
INLINE float softmax(float *restrict p, uint16_t *restrict shares, size_t seen, size_t m, float scale,
                     const int pairs) {
    float most = p[0], sum = 0.0f;
    for (size_t j = 1; j < seen; j++)
        most = p[j] > most ? p[j] : most;
    for (size_t j = 0; j < seen; j++) {
        float t = 1.44269504f * scale * (p[j] - most);
        p[j] = power(t < -120.0f ? -120.0f : t);
        sum += p[j];
    }
    for (size_t j = seen; j < m; j++)
        p[j] = 0.0f;
    if (pairs)
        for (size_t j = 0; j < m; j++)
            put(shares, j, 1, p[j]);
    return sum;
}

/* The attention of `count` queries, from `from`, of one head: [., d] of out. */
INLINE void queries_of(const Attention *at, size_t n, size_t h, size_t from, size_t count, const void *qkv, void *out,
                       Scratch s, const size_t lanes, const int pairs, const int half) {
    const size_t d = (size_t)at->width, c = (size_t)at->heads * d, m = tokens_of(at), panel = VECTORS * lanes;
    const size_t all = (size_t)(at->context + at->own), rows = up(count, ROWS), depth = pairs ? d / 2 : d;
    const float scale = 1.0f / sqrtf((float)d);
    for (size_t r = 0; r < rows; r++) {
        const size_t first = (n * (size_t)(at->own ? at->own : at->queries) + from + r) * row_of(at) + h * d;
        for (size_t k = 0; k < depth; k++)
            if (r >= count)
                s.queries[r * depth + k] = 0.0f;
            else if (pairs)
                memcpy(s.queries + r * depth + k, (const uint16_t *)qkv + first + 2 * k, 4);
            else
                s.queries[r * depth + k] = get(qkv, first + k, half);
    }
    for (size_t j = 0; j < m; j += panel)
        for (size_t r = 0; r < rows; r += ROWS)
            tile(s.queries + r * depth, depth, s.keys + j * depth, panel, s.scores + r * m + j, m, depth, VECTORS,
                 lanes, pairs);
    float sums[BLOCK];
    for (size_t r = 0; r < count; r++) {
        const size_t seen = at->causal ? (size_t)at->context + from + r + 1 : all;
        sums[r] = softmax(s.scores + r * m, s.shares + r * m, seen, m, scale, pairs);
    }
    const float *shares = pairs ? (const float *)s.shares : s.scores;
    const size_t cells = pairs ? m / 2 : m;
    for (size_t r = 0; r < rows; r += ROWS) {
        size_t i = 0;
        for (; i + panel <= d; i += panel)
            tile(shares + r * cells, cells, s.values + i, d, s.result + r * d + i, d, cells, VECTORS, lanes,
                 pairs);
        for (; i < d; i += lanes)
            tile(shares + r * cells, cells, s.values + i, d, s.result + r * d + i, d, cells, 1, lanes, pairs);
    }
    for (size_t r = 0; r < count; r++)
        for (size_t i = 0; i < d; i++)
            put(out, (n * (size_t)at->queries + from + r) * c + h * d + i, half, s.result[r * d + i] / sums[r]);
}

/* A unit of work: some queries of one head, for which its keys and values are packed. */
INLINE void part(const Attention *at, size_t n, size_t h, size_t from, size_t last, const void *qkv,
                 const void *context, void *out, Scratch s, const size_t lanes, const int pairs, const int half) {
    const size_t rows = block_of(tokens_of(at));
    pack_keys(at, n, h, qkv, context, s.keys, VECTORS * lanes, pairs, half);
    pack_values(at, n, h, qkv, context, s.values, pairs, half);
    for (; from < last; from += rows)
        queries_of(at, n, h, from, last - from < rows ? last - from : rows, qkv, out, s, lanes, pairs, half);
}

#define VARIANT(name, target_name, lanes, pairs, half)                                                              \
    __attribute__((target(target_name))) static void name(const Attention *at, size_t n, size_t h, size_t from,     \
                                                          size_t last, const void *qkv, const void *context,        \
                                                          void *out, Scratch s) {                                   \
        part(at, n, h, from, last, qkv, context, out, s, lanes, pairs, half);                                       \
    }

VARIANT(float_avx2, "arch=x86-64-v3", 8, 0, 0)
VARIANT(half_avx2, "arch=x86-64-v3", 8, 0, 1)
VARIANT(float_avx512, "arch=x86-64-v4", 16, 0, 0)
VARIANT(half_avx512, "arch=x86-64-v4", 16, 0, 1)
VARIANT(half_units, "arch=x86-64-v4,avx512bf16", 16, 1, 1)

typedef void (*Part)(const Attention *, size_t, size_t, size_t, size_t, const void *, const void *, void *, Scratch);

/* The processor's kernel, or that of an older one where ATEN_CPU_CAPABILITY limits PyTorch to it; NULL: none. */
static Part part_of(int half) {
    const char *limit = getenv("ATEN_CPU_CAPABILITY");
    const int none = limit && !strcmp(limit, "default"), avx2 = limit && !strcmp(limit, "avx2");
    if (none)
        return NULL;
    if (__builtin_cpu_supports("x86-64-v4") && !avx2) {
        if (half)
            return __builtin_cpu_supports("avx512bf16") ? half_units : half_avx512;
        return float_avx512;
    }
    if (__builtin_cpu_supports("x86-64-v3"))
        return half ? half_avx2 : float_avx2;
    return NULL;
}

/* 1 where glide_attention has a kernel for this processor. */
int glide_attention_supported(void) { return part_of(0) != NULL; }

/* softmax(q k^T / sqrt(d)) v of the first tokens: qkv [N,own,3C], or the queries alone [N,queries,C] with own = 0; keys
   and values of the context [N,context,2C] -> out [N,queries,C]. C is heads * width, width a multiple of 16.
   Returns 1 if memory is missing, 2 where there is no kernel. */
int glide_attention(const Attention *at, const void *qkv, const void *context, void *out) {
    const Part kernel = part_of(at->half);
    const int64_t heads = at->pictures * at->heads, wanted = (UNITS * omp_get_max_threads() + heads - 1) / heads;
    const int64_t most = (at->queries + PART - 1) / PART, parts = wanted < most ? wanted : most;
    int failed = 0;
    if (!kernel)
        return 2;
#pragma omp parallel reduction(|| : failed)
    {
        float *memory = aligned_alloc(64, (scratch_size(at) + 63) / 64 * 64);
        failed = !memory;
#pragma omp for collapse(3)
        for (int64_t n = 0; n < at->pictures; n++)
            for (int64_t h = 0; h < at->heads; h++)
                for (int64_t p = 0; p < parts; p++)
                    if (memory)
                        kernel(at, (size_t)n, (size_t)h, (size_t)(at->queries * p / parts),
                               (size_t)(at->queries * (p + 1) / parts), qkv, context, out, scratch_in(memory, at));
        free(memory);
    }
    return failed;
}

#else

int glide_attention_supported(void) { return 0; }

int glide_attention(const Attention *at, const void *qkv, const void *context, void *out) {
    (void)at, (void)qkv, (void)context, (void)out;
    return 2;
}

#endif
