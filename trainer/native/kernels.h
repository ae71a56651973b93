/* What the kernels share, and what they are. All work on one thread and on arrays without gaps;
   each says its arrays' shapes. They return 0, or 1 where there was no memory. */
#ifndef KERNELS_H
#define KERNELS_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef uint16_t bf16; /* the upper half of a float */

#define LANES 16 /* floats of a vector */

/* Loops over arrays of vectors are unrolled whole, or gcc leaves the arrays in memory; functions that
   take constants are compiled for each of them. */
#define EACH _Pragma("GCC unroll 32") for
#define INLINE static inline __attribute__((always_inline))

static inline __m512 load_bf16(const bf16 *from) {
    __m256i half = _mm256_loadu_si256((const __m256i *)from);
    /* Each half goes above a zero: one instruction, where widening and shifting are two. */
    const __m512i places = _mm512_slli_epi32(
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 16);
    return (__m512)_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, places,
                                                  _mm512_castsi256_si512(half));
}

static inline __m256i to_bf16(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

static inline void store_bf16(bf16 *to, __m512 x) {
    _mm256_storeu_si256((__m256i *)to, to_bf16(x));
}

/* Memory of this thread that its kernels work in, aligned to 64 bytes; NULL if there is none. */
void *workspace(size_t bytes);

/* winograd.c */
int winograd_convolve(const bf16 *x, const float *weight, bf16 *y, int images, int height,
                      int width, int inputs, int outputs, int turned);
int winograd_kernel_gradient(const bf16 *x, const bf16 *gradient, float *out, int images,
                             int height, int width, int inputs, int outputs);

/* dropout.c */
typedef struct {
    uint32_t drop; /* of 2**24; with 0 nothing is multiplied, and the order has to change */
    float scale;   /* of what is kept; it is rounded to bf16 */
    uint32_t keys[2], step;
} Dropout;
enum { SAME_ORDER, TO_CHANNEL_ORDER, TO_CHANNELS_LAST }; /* from channels last; and back */
int drop_values(const bf16 *x, bf16 *y, int images, int pixels, int channels, int turn,
                const Dropout *dropout);

/* activated.c: pixels [N][H][W][C] -> [N][H/2][W/2][C], or of the same size; C a multiple of 16.
   statistics: of a batch norm, [4][C]: mean, 1 / standard deviation, scale and shift; or NULL, and
   shift [C] is added alone. slope: 0 or more, of negative values. pooling: 0 none, 1 the largest,
   2 the average. */
int batch_statistics(const bf16 *x, size_t pixels, int channels, const float *weight,
                     const float *bias, float *running_mean, float *running_variance,
                     float momentum, float eps, float *statistics);
int activate(const bf16 *x, bf16 *y, int images, int height, int width, int channels,
             const float *statistics, const float *shift, float slope, int pooling);
/* dweight and dbias [C] are the norm's, or dbias that of the shift and dweight unused. */
int activate_backward(const bf16 *x, const bf16 *gradient, bf16 *dx, int images, int height,
                      int width, int channels, const float *statistics, const float *shift,
                      float slope, int pooling, float *dweight, float *dbias);

/* images.c */
typedef __mmask16 Kept[4]; /* what is kept of 16 channels of four outputs that were pooled */
int images_pool(const float *x, const float *kernels, const float *shift, bf16 *y, Kept *kept,
                int images, int height, int width, int channels, int side, float slope,
                int average);
int images_pool_gradient(const float *x, const Kept *kept, const bf16 *gradient, float *of_kernels,
                         float *of_shift, int images, int height, int width, int channels, int side,
                         float slope, int average);
int images_normalise(const float *x, const float *kernels, const float *weight, const float *bias,
                     float *running_mean, float *running_variance, float *scaled, float *shift,
                     float *seen, int images, int height, int width, int channels, int side,
                     double eps, double momentum);
int images_normalise_gradient(const float *kernels, const float *weight, const float *seen,
                              float *of_kernels, const float *of_shift, float *of_weight,
                              int channels, int side);

#endif
