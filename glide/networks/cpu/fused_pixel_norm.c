/* Norm of each pixel by itself, over its channels, scale and shift, and SiLU, in one pass over the activations.

   fused.py defines what is computed. */

#include "fused.h"

INLINE float mean_of(const void *x, size_t row, size_t c, int half) {
    float sum = 0.0f;
    for (size_t i = 0; i < c; i++)
        sum += get(x, row + i, half);
    return sum / (float)c;
}

INLINE float rstd_of(const void *x, size_t row, size_t c, float mean, float eps, int half) {
    float square = 0.0f;
    for (size_t i = 0; i < c; i++) {
        float d = get(x, row + i, half) - mean;
        square += d * d;
    }
    return 1.0f / sqrtf(square / (float)c + eps);
}

INLINE void pixels_of_type(const void *restrict x, void *restrict y, size_t from, size_t to, size_t c,
                      const float *restrict a, const float *restrict b, float eps, int half, int silu) {
    for (size_t row = from * c; row < to * c; row += c) {
        float mean = mean_of(x, row, c, half), rstd = rstd_of(x, row, c, mean, eps, half);
        for (size_t i = 0; i < c; i++) {
            float z = (get(x, row + i, half) - mean) * rstd * a[i] + b[i];
            put(y, row + i, half, silu ? z * sigmoid(z) : z);
        }
    }
}

/* Each pixel normalised by itself, then y = a x + b, then SiLU if `silu`. */
FAST static void pixels(const void *x, void *y, size_t from, size_t to, size_t c, const float *a, const float *b,
                        float eps, int half, int silu) {
    EACH(pixels_of_type, x, y, from, to, c, a, b, eps);
}

INLINE void back_pixels_of_type(const void *restrict g, const void *restrict x, void *restrict dx, size_t from,
                                size_t to, size_t c, const float *restrict a, const float *restrict b, float eps,
                                float *restrict sum, float *restrict along, float *restrict normed,
                                float *restrict weighted, int half, int silu) {
    for (size_t row = from * c; row < to * c; row += c) {
        float mean = mean_of(x, row, c, half), rstd = rstd_of(x, row, c, mean, eps, half), first = 0.0f, second = 0.0f;
        for (size_t i = 0; i < c; i++) {
            float h = (get(x, row + i, half) - mean) * rstd, dz = get(g, row + i, half);
            if (silu)
                dz = silu_gradient(dz, h * a[i] + b[i]);
            sum[i] += dz;
            along[i] += dz * h;
            float dh = dz * a[i];
            first += dh;
            second += dh * h;
            normed[i] = h;
            weighted[i] = dh;
        }
        first /= (float)c;
        second /= (float)c;
        for (size_t i = 0; i < c; i++)
            put(dx, row + i, half, rstd * (weighted[i] - first - second * normed[i]));
    }
}

/* Its gradient; sums over rows of dz, that of z = a x + b, and of dz times the normalised x. normed, weighted: room for
   C numbers. */
FAST static void back_pixels(const void *g, const void *x, void *dx, size_t from, size_t to, size_t c, const float *a,
                             const float *b, float eps, float *sum, float *along, float *normed, float *weighted,
                             int half, int silu) {
    EACH(back_pixels_of_type, g, x, dx, from, to, c, a, b, eps, sum, along, normed, weighted);
}

static const double ZERO = 0.0, ONE = 1.0; /* mean and inverse deviation of numbers that are normalised already */

/* x [N,L,C] -> y. Returns 1 if memory is missing. */
int glide_pixel_norm(const Norm *norm, const void *x, void *y) {
    const int64_t pictures = norm->pictures, l = norm->pixels, c = norm->channels, parts = parts_of(norm);
    float *maps = malloc((size_t)(2 * pictures * c) * sizeof(float));
    if (!maps)
        return 1;
#pragma omp parallel if (pictures * l * c > 4096)
    {
#pragma omp for
        for (int64_t n = 0; n < pictures; n++)
            affine(norm, n, &ZERO, &ONE, maps + 2 * n * c, maps + (2 * n + 1) * c);
#pragma omp for collapse(2)
        for (int64_t n = 0; n < pictures; n++)
            for (int64_t p = 0; p < parts; p++)
                pixels(x, y, n * l + l * p / parts, n * l + l * (p + 1) / parts, c, maps + 2 * n * c,
                       maps + (2 * n + 1) * c, (float)norm->eps, norm->half, norm->silu);
    }
    free(maps);
    return 0;
}

/* The gradient g [N,L,C] of y -> all gradients, as `glide_group_norm_back`. */
int glide_pixel_norm_back(const Norm *norm, const void *g, const void *x, void *dx, float *dweight, float *dbias,
                          float *dscale, float *dshift) {
    const int64_t pictures = norm->pictures, l = norm->pixels, c = norm->channels, parts = parts_of(norm);
    float *memory = malloc((size_t)(pictures * c * (4 + 4 * parts)) * sizeof(float));
    if (!memory)
        return 1;
    float *maps = memory, *sums_of = maps + 2 * pictures * c, *partial = sums_of + 2 * pictures * c;
#pragma omp parallel if (pictures * l * c > 4096)
    {
#pragma omp for
        for (int64_t n = 0; n < pictures; n++)
            affine(norm, n, &ZERO, &ONE, maps + 2 * n * c, maps + (2 * n + 1) * c);
#pragma omp for collapse(2)
        for (int64_t n = 0; n < pictures; n++)
            for (int64_t p = 0; p < parts; p++) {
                float *sum = partial + (n * parts + p) * 4 * c;
                memset(sum, 0, (size_t)(2 * c) * sizeof(float));
                back_pixels(g, x, dx, n * l + l * p / parts, n * l + l * (p + 1) / parts, c, maps + 2 * n * c,
                            maps + (2 * n + 1) * c, (float)norm->eps, sum, sum + c, sum + 2 * c, sum + 3 * c,
                            norm->half, norm->silu);
            }
#pragma omp for collapse(2)
        for (int64_t n = 0; n < pictures; n++)
            for (int64_t i = 0; i < 2 * c; i++) {
                double sum = 0.0;
                for (int64_t p = 0; p < parts; p++)
                    sum += partial[(n * parts + p) * 4 * c + i];
                sums_of[2 * n * c + i] = (float)sum;
            }
        if (dweight || dbias || dscale || dshift)
#pragma omp for
            for (int64_t i = 0; i < c; i++)
                parameter_gradients(norm, i, sums_of, dweight, dbias, dscale, dshift);
    }
    free(memory);
    return 0;
}
