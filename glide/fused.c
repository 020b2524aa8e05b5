/* Group or pixel norm, the scale and shift of an embedding, and SiLU: two walks through the activations, forwards and backwards.

   One by one these operations wait for memory, or, on a few channels a group, for kernels that were not written for
   them. Here the first walk takes the sums and the second does the rest. `fused.py` says what is computed.

   Shape letters: N pictures, L pixels of each, C channels, G groups of neighbouring channels. Activations are [N,L,C]
   (channels_last), in float32 or bfloat16; all arithmetic is in float32, and sums of sums in float64.
   A picture's numbers depend neither on how many others there are nor on the number of threads. With no groups each pixel
   is normed by itself, over its channels, and one walk is enough.

   It is compiled with OpenMP but not linked with it: PyTorch has an OpenMP in the process, whose threads these are. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__clang__) || __GNUC__ < 12
#error "expected GCC 12 or newer: without, PyTorch's operations are used"
#elif defined(__x86_64__) && defined(__gnu_linux__)
#define FAST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#elif defined(__aarch64__)
#define FAST /* all have the same vectors */
#else
#error "expected a processor whose vectors are known, or can be asked for: without, PyTorch's operations are used"
#endif
#define INLINE static inline __attribute__((always_inline))
#define EACH(f, ...) \
    (half ? (silu ? f(__VA_ARGS__, 1, 1) : f(__VA_ARGS__, 1, 0)) \
          : (silu ? f(__VA_ARGS__, 0, 1) : f(__VA_ARGS__, 0, 0))) /* a loop of its own for each type */
#define PARTS 64      /* of a picture, at most: what threads share out */
#define PART_ROWS 32  /* pixels of a part, at least */

typedef struct {
    int64_t pictures, pixels, channels, groups; /* no groups: each pixel by itself */
    double eps;
    int32_t half;        /* activations and their gradients are bfloat16, else float32 */
    int32_t half_affine; /* the same of weight and bias [C] */
    int32_t half_told;   /* the same of scale and shift [N,C] */
    int32_t silu;
    int64_t told_stride; /* from one picture's scale to the next one's */
    const void *weight, *bias, *scale, *shift; /* scale and shift may both be NULL */
} Norm;

INLINE float get(const void *p, size_t i, int half) {
    if (!half)
        return ((const float *)p)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)p)[i] << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

INLINE void put(void *p, size_t i, int half, float value) {
    if (!half) {
        ((float *)p)[i] = value;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, 4);
    ((uint16_t *)p)[i] = (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16); /* to nearest, ties to even */
}

/* 1 / (1 + exp(-z)), to 2e-7 of its value. With t = -z / log(2), 2^t is 2^f shifted by a whole number, which adding
   SHIFT leaves in the last bits, 127 more than it is, as exponents are kept; 2^f on [-1/2, 1/2] is the polynomial of
   degree 5 with the least relative error, 8e-8. */
INLINE float sigmoid(float z) {
    const float SHIFT = 12582912.0f + 127.0f;
    float t = -1.44269504f * z;
    t = t < -125.0f ? -125.0f : t; /* no nearer to denormal numbers, which take a hundred times as long */
    t = t > 125.0f ? 125.0f : t;
    float shifted = t + SHIFT;
    uint32_t bits;
    memcpy(&bits, &shifted, 4);
    float f = t - (float)((int32_t)bits - (0x4b400000 + 127)); /* shifted - SHIFT would be seen to be t */
    float p = 1.327644910e-3f;
    p = p * f + 9.675566118e-3f;
    p = p * f + 5.550713554e-2f;
    p = p * f + 2.402211931e-1f;
    p = p * f + 6.931469668e-1f;
    p = p * f + 1.000000072f;
    bits <<= 23;
    float power;
    memcpy(&power, &bits, 4);
    return 1.0f / (1.0f + p * power);
}

/* The gradient before SiLU, of one number: z = a x + b. */
INLINE float before_silu(float g, float z) {
    float s = sigmoid(z);
    return g * s * (1.0f + z * (1.0f - s));
}

/* Sums over rows [from, to) of x [.,C] minus a pivot [C], without which small deviations of large numbers would drown,
   and of the squares. */
INLINE void sums_as(const void *x, size_t from, size_t to, size_t c, const float *restrict pivot,
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
        sums_as(x, from, to, c, pivot, sum, square, 1);
    else
        sums_as(x, from, to, c, pivot, sum, square, 0);
}

INLINE void map_as(const void *restrict x, void *restrict y, size_t from, size_t to, size_t c, const float *restrict a,
                   const float *restrict b, int half, int silu) {
    for (size_t r = from; r < to; r++)
        for (size_t i = 0; i < c; i++) {
            float z = get(x, r * c + i, half) * a[i] + b[i];
            put(y, r * c + i, half, silu ? z * sigmoid(z) : z);
        }
}

/* y = a x + b, through SiLU where asked. */
FAST static void map(const void *x, void *y, size_t from, size_t to, size_t c, const float *a, const float *b, int half,
                     int silu) {
    EACH(map_as, x, y, from, to, c, a, b);
}

/* Sums over rows of the gradient dz of z = a x + b, and of dz (x - mean). Through SiLU dz is kept, else it is g. */
INLINE void back_sums_as(const void *restrict g, const void *restrict x, void *restrict kept, size_t from, size_t to,
                         size_t c, const float *restrict a, const float *restrict b, const float *restrict mean,
                         float *restrict sum, float *restrict along, int half, int silu) {
    for (size_t r = from; r < to; r++)
        for (size_t i = 0; i < c; i++) {
            float v = get(x, r * c + i, half), dz = get(g, r * c + i, half);
            if (silu) {
                dz = before_silu(dz, v * a[i] + b[i]);
                put(kept, r * c + i, half, dz);
            }
            sum[i] += dz;
            along[i] += dz * (v - mean[i]);
        }
}

FAST static void back_sums(const void *g, const void *x, void *kept, size_t from, size_t to, size_t c, const float *a,
                           const float *b, const float *mean, float *sum, float *along, int half, int silu) {
    EACH(back_sums_as, g, x, kept, from, to, c, a, b, mean, sum, along);
}

/* dx = a dz + k (x - mean) + m, where dx may be dz. */
INLINE void back_map_as(const void *dz, const void *x, void *dx, size_t from, size_t to, size_t c, const float *a,
                        const float *mean, const float *k, const float *m, int half) {
    for (size_t r = from; r < to; r++)
#pragma GCC ivdep /* each number depends on those in its own place alone */
        for (size_t i = 0; i < c; i++)
            put(dx, r * c + i, half,
                a[i] * get(dz, r * c + i, half) + k[i] * (get(x, r * c + i, half) - mean[i]) + m[i]);
}

FAST static void back_map(const void *dz, const void *x, void *dx, size_t from, size_t to, size_t c, const float *a,
                          const float *mean, const float *k, const float *m, int half) {
    if (half)
        back_map_as(dz, x, dx, from, to, c, a, mean, k, m, 1);
    else
        back_map_as(dz, x, dx, from, to, c, a, mean, k, m, 0);
}

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

INLINE void pixels_as(const void *restrict x, void *restrict y, size_t from, size_t to, size_t c,
                      const float *restrict a, const float *restrict b, float eps, int half, int silu) {
    for (size_t row = from * c; row < to * c; row += c) {
        float mean = mean_of(x, row, c, half), rstd = rstd_of(x, row, c, mean, eps, half);
        for (size_t i = 0; i < c; i++) {
            float z = (get(x, row + i, half) - mean) * rstd * a[i] + b[i];
            put(y, row + i, half, silu ? z * sigmoid(z) : z);
        }
    }
}

/* Each pixel normed by itself, then y = a x + b, through SiLU where asked. */
FAST static void pixels(const void *x, void *y, size_t from, size_t to, size_t c, const float *a, const float *b,
                        float eps, int half, int silu) {
    EACH(pixels_as, x, y, from, to, c, a, b, eps);
}

INLINE void back_pixels_as(const void *restrict g, const void *restrict x, void *restrict dx, size_t from, size_t to,
                           size_t c, const float *restrict a, const float *restrict b, float eps, float *restrict sum,
                           float *restrict along, float *restrict normed, float *restrict turned, int half, int silu) {
    for (size_t row = from * c; row < to * c; row += c) {
        float mean = mean_of(x, row, c, half), rstd = rstd_of(x, row, c, mean, eps, half), first = 0.0f, second = 0.0f;
        for (size_t i = 0; i < c; i++) {
            float h = (get(x, row + i, half) - mean) * rstd, dz = get(g, row + i, half);
            if (silu)
                dz = before_silu(dz, h * a[i] + b[i]);
            sum[i] += dz;
            along[i] += dz * h;
            float dh = dz * a[i];
            first += dh;
            second += dh * h;
            normed[i] = h;
            turned[i] = dh;
        }
        first /= (float)c;
        second /= (float)c;
        for (size_t i = 0; i < c; i++)
            put(dx, row + i, half, rstd * (turned[i] - first - second * normed[i]));
    }
}

/* Its gradient; sums over rows of that of z = a x + b, and of that times the normed x. normed, turned: room for C. */
FAST static void back_pixels(const void *g, const void *x, void *dx, size_t from, size_t to, size_t c, const float *a,
                             const float *b, float eps, float *sum, float *along, float *normed, float *turned,
                             int half, int silu) {
    EACH(back_pixels_as, g, x, dx, from, to, c, a, b, eps, sum, along, normed, turned);
}

static int64_t parts_of(const Norm *norm) {
    int64_t parts = norm->pixels / PART_ROWS;
    return parts < 1 ? 1 : parts > PARTS ? PARTS : parts;
}

/* What channel i of picture n is multiplied by after the norm, 1 + scale. */
static double times(const Norm *norm, int64_t n, int64_t i) {
    return norm->scale ? 1.0 + get(norm->scale, n * norm->told_stride + i, norm->half_told) : 1.0;
}

/* The affine map z = a x + b of picture n, [C] each, from the mean and deviation [G] of its groups. */
static void affine(const Norm *norm, int64_t n, const double *mean, const double *rstd, float *a, float *b) {
    int64_t width = norm->groups ? norm->channels / norm->groups : norm->channels;
    for (int64_t i = 0; i < norm->channels; i++) {
        int64_t group = i / width;
        double by = times(norm, n, i), w = rstd[group] * get(norm->weight, i, norm->half_affine);
        double plus = get(norm->bias, i, norm->half_affine) - mean[group] * w;
        a[i] = (float)(w * by);
        b[i] = (float)(plus * by + (norm->scale ? get(norm->shift, n * norm->told_stride + i, norm->half_told) : 0.0));
    }
}

/* The gradients of what channel i is told, from the sums over each picture of dz and of dz times the normed x, [N,2,C]. */
static void of_channel(const Norm *norm, int64_t i, const float *sums_of, float *dweight, float *dbias, float *dscale,
                       float *dshift) {
    const int64_t c = norm->channels;
    double dw = 0.0, db = 0.0;
    for (int64_t n = 0; n < norm->pictures; n++) {
        double s = sums_of[2 * n * c + i], t = sums_of[(2 * n + 1) * c + i], by = times(norm, n, i);
        dw += by * t;
        db += by * s;
        if (norm->scale) {
            dscale[n * c + i] =
                (float)(get(norm->weight, i, norm->half_affine) * t + get(norm->bias, i, norm->half_affine) * s);
            dshift[n * c + i] = (float)s;
        }
    }
    dweight[i] = (float)dw;
    dbias[i] = (float)db;
}

static const double NOTHING = 0.0, ONE = 1.0; /* the mean and deviation of what is normed already */

static int pixel_norm(const Norm *norm, const void *x, void *y) {
    const int64_t pictures = norm->pictures, l = norm->pixels, c = norm->channels, parts = parts_of(norm);
    float *maps = malloc((size_t)(2 * pictures * c) * sizeof(float));
    if (!maps)
        return 1;
#pragma omp parallel if (pictures * l * c > 4096)
    {
#pragma omp for
        for (int64_t n = 0; n < pictures; n++)
            affine(norm, n, &NOTHING, &ONE, maps + 2 * n * c, maps + (2 * n + 1) * c);
#pragma omp for collapse(2)
        for (int64_t n = 0; n < pictures; n++)
            for (int64_t p = 0; p < parts; p++)
                pixels(x, y, n * l + l * p / parts, n * l + l * (p + 1) / parts, c, maps + 2 * n * c,
                       maps + (2 * n + 1) * c, (float)norm->eps, norm->half, norm->silu);
    }
    free(maps);
    return 0;
}

static int pixel_norm_back(const Norm *norm, const void *g, const void *x, void *dx, float *dweight, float *dbias,
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
            affine(norm, n, &NOTHING, &ONE, maps + 2 * n * c, maps + (2 * n + 1) * c);
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
#pragma omp for
        for (int64_t i = 0; i < c; i++)
            of_channel(norm, i, sums_of, dweight, dbias, dscale, dshift);
    }
    free(memory);
    return 0;
}

/* Of what these functions take and do: `fused.py` has the same number, and leaves a library of another one alone. */
int glide_norm_version(void) { return 1; }

/* x [N,L,C] -> y; stats [N,2,G]: the mean of each group, and one over its deviation. 1 where memory is missing. */
int glide_norm(const Norm *norm, const void *x, void *y, double *stats) {
    if (!norm->groups)
        return pixel_norm(norm, x, y);
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
                double first = 0.0, second = 0.0, within = 0.0; /* moments of the channels' means; variance in them */
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

/* The gradient g [N,L,C] of y -> that of x; those of weight and bias [C] and of scale and shift [N,C] in float32, the
   latter two where there are any. */
int glide_norm_back(const Norm *norm, const void *g, const void *x, const double *stats, void *dx, float *dweight,
                    float *dbias, float *dscale, float *dshift) {
    if (!norm->groups)
        return pixel_norm_back(norm, g, x, dx, dweight, dbias, dscale, dshift);
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
                double plain = 0.0, turned = 0.0; /* means over the group of dz and of dz times the normed x */
                for (int64_t i = group * width; i < (group + 1) * width; i++) {
                    double s = 0.0, t = 0.0;
                    for (int64_t p = 0; p < parts; p++) {
                        s += partial[(n * parts + p) * 2 * c + i];
                        t += partial[(n * parts + p) * 2 * c + c + i];
                    }
                    t *= rstd;
                    const double w = get(norm->weight, i, norm->half_affine) * times(norm, n, i);
                    plain += w * s;
                    turned += w * t;
                    sum[i] = (float)s;
                    along[i] = (float)t;
                }
                for (int64_t i = group * width; i < (group + 1) * width; i++) {
                    k[i] = (float)(-rstd * rstd * turned / (double)(l * width));
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
#pragma omp for
        for (int64_t i = 0; i < c; i++)
            of_channel(norm, i, sums_of, dweight, dbias, dscale, dshift);
    }
    free(memory);
    return 0;
}
