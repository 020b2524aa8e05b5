/* Common code of group norms and pixel norms (fused_group_norm.c, fused_pixel_norm.c), numbers, SiLU, scale and shift,
   and of attention (fused_attention.c, fused_attention_forward.c).

   Shape letters: N pictures, L pixels of each, C channels, G groups of neighbouring channels. Activations are [N,L,C]
   (channels_last), in float32 or bfloat16; all arithmetic is in float32, and sums of sums in float64.
   A picture's result depends neither on the number of pictures nor on the number of threads.

   It is compiled with OpenMP but not linked with it: the process has PyTorch's OpenMP, whose threads it uses. */

#ifndef GLIDE_FUSED_H
#define GLIDE_FUSED_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__clang__) || __GNUC__ < 12
#error "expected GCC 12 or newer: without it PyTorch's operations are used"
#elif defined(__x86_64__) && defined(__gnu_linux__)
#define FAST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#elif defined(__aarch64__)
#define FAST /* all processors have the same vectors */
#else
#error "expected x86-64 or AArch64: on other processors PyTorch's operations are used"
#endif
#define INLINE static inline __attribute__((always_inline))
#define EACH(f, ...) \
    (half ? (silu ? f(__VA_ARGS__, 1, 1) : f(__VA_ARGS__, 1, 0)) \
          : (silu ? f(__VA_ARGS__, 0, 1) : f(__VA_ARGS__, 0, 0))) /* a separate loop for each type */
#define PARTS 64      /* of a picture, at most: the units of work of the threads */
#define PART_ROWS 32  /* pixels of a part, at least */

typedef struct {
    int64_t pictures, pixels, channels, groups; /* groups 0: each pixel by itself */
    double eps;
    int32_t half;        /* activations and their gradients are bfloat16, else float32 */
    int32_t half_affine; /* the same of weight and bias [C] */
    int32_t half_scale_shift; /* the same of scale and shift [N,C] */
    int32_t silu;
    int64_t scale_shift_stride; /* from one picture's scale to the next one's */
    const void *weight, *bias, *scale, *shift; /* scale and shift may both be NULL */
} Norm;

typedef struct {
    int64_t pictures, heads, width, queries, own, context; /* tokens: those of the context, then the sequence's own */
    int64_t context_stride, context_row; /* of the context: from one picture to the next one's, from token to token */
    int32_t half, causal;
} Attention;

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

/* 2^t of t in [-125, 125], with a relative error of 1e-7: t = i + f with a whole number i. Adding SHIFT leaves i + 127
   in the last bits, which is the form of an exponent; 2^f on [-1/2, 1/2] is the polynomial of degree 5 with the least
   relative error, 8e-8. */
INLINE float power(float t) {
    const float SHIFT = 12582912.0f + 127.0f;
    float shifted = t + SHIFT;
    uint32_t bits;
    memcpy(&bits, &shifted, 4);
    float f = t - (float)((int32_t)bits - (0x4b400000 + 127)); /* the compiler would simplify shifted - SHIFT to t */
    float p = 1.327644910e-3f;
    p = p * f + 9.675566118e-3f;
    p = p * f + 5.550713554e-2f;
    p = p * f + 2.402211931e-1f;
    p = p * f + 6.931469668e-1f;
    p = p * f + 1.000000072f;
    bits <<= 23;
    float whole;
    memcpy(&whole, &bits, 4);
    return p * whole;
}

/* 1 / (1 + exp(-z)), with a relative error of 2e-7. */
INLINE float sigmoid(float z) {
    float t = -1.44269504f * z;
    t = t < -125.0f ? -125.0f : t; /* no denormal numbers, which take a hundred times as long */
    t = t > 125.0f ? 125.0f : t;
    return 1.0f / (1.0f + power(t));
}

/* The gradient of z = a x + b from that of silu(z), for one number. */
INLINE float silu_gradient(float g, float z) {
    float s = sigmoid(z);
    return g * s * (1.0f + z * (1.0f - s));
}

INLINE int64_t parts_of(const Norm *norm) {
    int64_t parts = norm->pixels / PART_ROWS;
    return parts < 1 ? 1 : parts > PARTS ? PARTS : parts;
}

/* The factor 1 + scale of channel i of picture n. */
INLINE double times(const Norm *norm, int64_t n, int64_t i) {
    return norm->scale ? 1.0 + get(norm->scale, n * norm->scale_shift_stride + i, norm->half_scale_shift) : 1.0;
}

/* The affine map z = a x + b of picture n, a and b [C], from the mean and inverse deviation [G] of its groups. */
static inline void affine(const Norm *norm, int64_t n, const double *mean, const double *rstd, float *a, float *b) {
    int64_t width = norm->groups ? norm->channels / norm->groups : norm->channels;
    for (int64_t i = 0; i < norm->channels; i++) {
        int64_t group = i / width;
        double factor = times(norm, n, i), w = rstd[group] * get(norm->weight, i, norm->half_affine);
        double plus = get(norm->bias, i, norm->half_affine) - mean[group] * w;
        a[i] = (float)(w * factor);
        b[i] = (float)(plus * factor + (norm->scale ? get(norm->shift, n * norm->scale_shift_stride + i,
                                                          norm->half_scale_shift) : 0.0));
    }
}

/* The gradients of weight, bias, scale and shift of channel i, those that are wanted, from the sums over each picture
   of dz and of dz times the normalised x, [N,2,C]. */
static inline void parameter_gradients(const Norm *norm, int64_t i, const float *sums_of, float *dweight, float *dbias,
                              float *dscale, float *dshift) {
    const int64_t c = norm->channels;
    double dw = 0.0, db = 0.0;
    for (int64_t n = 0; n < norm->pictures; n++) {
        double s = sums_of[2 * n * c + i], t = sums_of[(2 * n + 1) * c + i], factor = times(norm, n, i);
        dw += factor * t;
        db += factor * s;
        if (dscale)
            dscale[n * c + i] =
                (float)(get(norm->weight, i, norm->half_affine) * t + get(norm->bias, i, norm->half_affine) * s);
        if (dshift)
            dshift[n * c + i] = (float)s;
    }
    if (dweight)
        dweight[i] = (float)dw;
    if (dbias)
        dbias[i] = (float)db;
}

#endif
