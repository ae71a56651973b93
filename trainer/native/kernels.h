/* What the kernels share, and what they are. All work on one thread and on arrays without gaps;
   each says its arrays' shapes. They return 0, or 1 where there was no memory. */
#ifndef KERNELS_H
#define KERNELS_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef uint16_t bf16; /* the upper half of a float */

#define LANES 16 /* floats of a vector */

static inline __m512 load_bf16(const bf16 *from) {
    __m256i half = _mm256_loadu_si256((const __m256i *)from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
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
