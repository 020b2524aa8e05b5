/* Group norm, scale and shift, and SiLU: two passes over the activations in the forward and in the backward direction.

   As separate operations they wait for memory, or, with few channels a group, for kernels that were not written for
   such groups. Here the first pass computes the sums and the second the rest. fused.py defines what is computed. */

#include "fused.h"

/* Sums over rows [from, to) of x [.,C] minus a pivot [C], and of the squares. Without the pivot small deviations of
   large numbers would be lost in rounding. */
INLINE void sums_of_type(const void *x, size_t from, size_t to, size_t c, const float *restrict pivot,
                    float *restrict sum, float *restrict square, int half) {
    for (size_t r = from; r < to; r++)
        for (size_t i = 0; i < c; i++) {
            float d = get(x, r * c + i, half) - pivot[i];
            sum[i] += d;
            square[i] += d * d;
        }
}

FAST static void sums(const void *x, size_t from, size_t to, size_t c, const float *pivot, float *sum, float *square,
                      int half) {
    if (half)
        sums_of_type(x, from, to, c, pivot, sum, square, 1);
    else
        sums_of_type(x, from, to, c, pivot, sum, square, 0);
}

INLINE void map_of_type(const void *restrict x, void *restrict y, size_t from, size_t to, size_t c,
                        const float *restrict a, const float *restrict b, int half, int silu) {
    for (size_t r = from; r < to; r++)
        for (size_t i = 0; i < c; i++) {
            float z = get(x, r * c + i, half) * a[i] + b[i];
            put(y, r * c + i, half, silu ? z * sigmoid(z) : z);
        }
}

/* y = a x + b, then SiLU if `silu`. */
FAST static void map(const void *x, void *y, size_t from, size_t to, size_t c, const float *a, const float *b, int half,
                     int silu) {
    EACH(map_of_type, x, y, from, to, c, a, b);
}

/* Sums over rows of the gradient dz of z = a x + b, and of dz (x - mean). With SiLU dz is stored, else it is g. */
INLINE void back_sums_of_type(const void *restrict g, const void *restrict x, void *restrict kept, size_t from,
                              size_t to, size_t c, const float *restrict a, const float *restrict b,
                              const float *restrict mean, float *restrict sum, float *restrict along, int half,
                              int silu) {
    for (size_t r = from; r < to; r++)
        for (size_t i = 0; i < c; i++) {
            float v = get(x, r * c + i, half), dz = get(g, r * c + i, half);
            if (silu) {
                dz = silu_gradient(dz, v * a[i] + b[i]);
                put(kept, r * c + i, half, dz);
            }
            sum[i] += dz;
            along[i] += dz * (v - mean[i]);
        }
}

FAST static void back_sums(const void *g, const void *x, void *kept, size_t from, size_t to, size_t c, const float *a,
                           const float *b, const float *mean, float *sum, float *along, int half, int silu) {
    EACH(back_sums_of_type, g, x, kept, from, to, c, a, b, mean, sum, along);
}

/* dx = a dz + k (x - mean) + m, where dx may be dz. */
INLINE void back_map_of_type(const void *dz, const void *x, void *dx, size_t from, size_t to, size_t c, const float *a,
                        const float *mean, const float *k, const float *m, int half) {
    for (size_t r = from; r < to; r++)
#pragma GCC ivdep /* each number depends on the inputs at its own index alone */
        for (size_t i = 0; i < c; i++)
            put(dx, r * c + i, half,
                a[i] * get(dz, r * c + i, half) + k[i] * (get(x, r * c + i, half) - mean[i]) + m[i]);
}

FAST static void back_map(const void *dz, const void *x, void *dx, size_t from, size_t to, size_t c, const float *a,
                          const float *mean, const float *k, const float *m, int half) {
    if (half)
        back_map_of_type(dz, x, dx, from, to, c, a, mean, k, m, 1);
    else
        back_map_of_type(dz, x, dx, from, to, c, a, mean, k, m, 0);
}

/* Version of these functions: `fused.py` has the same number, and does not use a library of another version. */
int glide_fused_version(void) { return 3; }

/* x [N,L,C] -> y; stats [N,2,G]: mean and inverse deviation of each group. Returns 1 if memory is missing. */
int glide_group_norm(const Norm *norm, const void *x, void *y, double *stats) {
    const int64_t pictures = norm->pictures, l = norm->pixels, c = norm->channels, groups = norm->groups;
    const int64_t width = c / groups, parts = parts_of(norm);
    float *memory = malloc((size_t)(pictures * c * (3 + 2 * parts)) * sizeof(float));
    if (!memory)
        return 1;
    float *pivots = memory, *maps = pivots + pictures * c, *partial = maps + 2 * pictures * c;
    for (int64_t n = 0; n < pictures; n++)
        for (int64_t i = 0; i < c; i++)
            pivots[n * c + i] = get(x, n * l * c + i, norm->half);
#pragma omp parallel if (pictures * l * c > 4096)
    {
#pragma omp for collapse(2)
        for (int64_t n = 0; n < pictures; n++)
            for (int64_t p = 0; p < parts; p++) {
                float *sum = partial + (n * parts + p) * 2 * c;
                memset(sum, 0, (size_t)(2 * c) * sizeof(float));
                sums(x, n * l + l * p / parts, n * l + l * (p + 1) / parts, c, pivots + n * c, sum, sum + c, norm->half);
            }
#pragma omp for
        for (int64_t n = 0; n < pictures; n++) {
            double *mean = stats + n * 2 * groups, *rstd = mean + groups;
            for (int64_t group = 0; group < groups; group++) {
                double first = 0.0, second = 0.0, within = 0.0; /* moments of channels' means; variance within them */
                const double origin = pivots[n * c + group * width];
                for (int64_t i = group * width; i < (group + 1) * width; i++) {
                    double sum = 0.0, square = 0.0;
                    for (int64_t p = 0; p < parts; p++) {
                        sum += partial[(n * parts + p) * 2 * c + i];
                        square += partial[(n * parts + p) * 2 * c + c + i];
                    }
                    sum /= l;
                    within += square / l - sum * sum;
                    double from_origin = sum + pivots[n * c + i] - origin;
                    first += from_origin;
                    second += from_origin * from_origin;
                }
                first /= width;
                double variance = within / width + second / width - first * first;
                mean[group] = origin + first;
                rstd[group] = 1.0 / sqrt((variance > 0.0 ? variance : 0.0) + norm->eps);
            }
            affine(norm, n, mean, rstd, maps + 2 * n * c, maps + (2 * n + 1) * c);
        }
#pragma omp for collapse(2)
        for (int64_t n = 0; n < pictures; n++)
            for (int64_t p = 0; p < parts; p++)
                map(x, y, n * l + l * p / parts, n * l + l * (p + 1) / parts, c, maps + 2 * n * c,
                    maps + (2 * n + 1) * c, norm->half, norm->silu);
    }
    free(memory);
    return 0;
}

/* The gradient g [N,L,C] of y -> that of x, and those of weight and bias [C] and of scale and shift [N,C] in float32,
   each if its pointer is not NULL. Returns 1 if memory is missing. */
int glide_group_norm_back(const Norm *norm, const void *g, const void *x, const double *stats, void *dx,
                          float *dweight, float *dbias, float *dscale, float *dshift) {
    const int64_t pictures = norm->pictures, l = norm->pixels, c = norm->channels, groups = norm->groups;
    const int64_t width = c / groups, parts = parts_of(norm);
    float *memory = malloc((size_t)(pictures * c * (7 + 2 * parts)) * sizeof(float));
    if (!memory)
        return 1;
    float *maps = memory, *sums_of = memory + 5 * pictures * c, *partial = sums_of + 2 * pictures * c;
#pragma omp parallel if (pictures * l * c > 4096)
    {
#pragma omp for
        for (int64_t n = 0; n < pictures; n++) {
            float *a = maps + 5 * n * c, *mean = a + 2 * c;
            affine(norm, n, stats + 2 * n * groups, stats + (2 * n + 1) * groups, a, a + c);
            for (int64_t i = 0; i < c; i++)
                mean[i] = (float)stats[2 * n * groups + i / width];
        }
#pragma omp for collapse(2)
        for (int64_t n = 0; n < pictures; n++)
            for (int64_t p = 0; p < parts; p++) {
                float *a = maps + 5 * n * c, *sum = partial + (n * parts + p) * 2 * c;
                memset(sum, 0, (size_t)(2 * c) * sizeof(float));
                back_sums(g, x, dx, n * l + l * p / parts, n * l + l * (p + 1) / parts, c, a, a + c, a + 2 * c, sum,
                          sum + c, norm->half, norm->silu);
            }
#pragma omp for
        for (int64_t n = 0; n < pictures; n++) {
            float *k = maps + 5 * n * c + 3 * c, *m = k + c, *sum = sums_of + 2 * n * c, *along = sum + c;
            for (int64_t group = 0; group < groups; group++) {
                const double rstd = stats[(2 * n + 1) * groups + group];
                double plain = 0.0, projected = 0.0; /* means over the group of dz and of dz times the normalised x */
                for (int64_t i = group * width; i < (group + 1) * width; i++) {
                    double s = 0.0, t = 0.0;
                    for (int64_t p = 0; p < parts; p++) {
                        s += partial[(n * parts + p) * 2 * c + i];
                        t += partial[(n * parts + p) * 2 * c + c + i];
                    }
                    t *= rstd;
                    const double w = get(norm->weight, i, norm->half_affine) * times(norm, n, i);
                    plain += w * s;
                    projected += w * t;
                    sum[i] = (float)s;
                    along[i] = (float)t;
                }
                for (int64_t i = group * width; i < (group + 1) * width; i++) {
                    k[i] = (float)(-rstd * rstd * projected / (double)(l * width));
                    m[i] = (float)(-rstd * plain / (double)(l * width));
                }
            }
        }
#pragma omp for collapse(2)
        for (int64_t n = 0; n < pictures; n++)
            for (int64_t p = 0; p < parts; p++) {
                float *a = maps + 5 * n * c;
                back_map(norm->silu ? dx : g, x, dx, n * l + l * p / parts, n * l + l * (p + 1) / parts, c, a,
                         a + 2 * c, a + 3 * c, a + 4 * c, norm->half);
            }
        if (dweight || dbias || dscale || dshift)
#pragma omp for
            for (int64_t i = 0; i < c; i++)
                parameter_gradients(norm, i, sums_of, dweight, dbias, dscale, dshift);
    }
    free(memory);
    return 0;
}
