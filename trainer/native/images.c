/* The first layer of a network on images of one channel: convolution with a kernel of 3x3 or 5x5
   (stride 1, same padding), a shift, an activation (x above zero, slope x below) and 2x2 pooling,
   in one pass.

   A pooled pixel comes from four outputs, which lie in registers, 16 channels in each, and are
   never written. Of their values only signs and comparisons are kept for the gradient, as bits
   (`Kept`). After max pooling: 0: the largest was in the right column, 1: in the lower row, 2: it
   was not above zero; of equal ones the first counts. After average pooling: 0 to 3: each was not
   above zero.

   Images and kernels stay fp32, so that nothing but the result is rounded.

   Images are [images][height][width], kernels [channels][side][side], pooled activations
   [images][height/2][width/2][channels]; channels are a multiple of 16, height and width even. */

#include <math.h>
#include <string.h>

#include "kernels.h"

#define MOST_SIDE 5
#define MOST_TAPS (MOST_SIDE * MOST_SIDE)

static inline __mmask16 first_of(int left) {
    return left < LANES ? (__mmask16)((1 << left) - 1) : (__mmask16)-1;
}

typedef struct {
    int height, width, side; /* of the image; of the kernel */
    int stride;              /* of its rows with zeros around them */
    size_t size;             /* of all of them, floats, with a vector to spare */
} Frame;

static Frame frame_of(int height, int width, int side) {
    Frame frame = {height, width, side, width + side - 1, 0};
    frame.size = ((size_t)frame.stride * (height + side - 1) + 2 * LANES - 1) / LANES * LANES;
    return frame;
}

/* Write an image into its frame of zeros. Return its largest absolute value; NaN if it has one. */
static float place(const Frame *frame, const float *image, float *framed) {
    float *row = framed + (frame->side / 2) * (frame->stride + 1);
    __m512i largest = _mm512_setzero_si512(); /* the order of absolute values, and NaN above all */
    for (int i = 0; i < frame->height; i++, row += frame->stride, image += frame->width) {
        for (int j = 0; j < frame->width; j += LANES) {
            __mmask16 inside = first_of(frame->width - j);
            __m512 pixels = _mm512_maskz_loadu_ps(inside, image + j);
            largest = _mm512_max_epu32(largest, _mm512_castps_si512(_mm512_abs_ps(pixels)));
            _mm512_mask_storeu_ps(row + j, inside, pixels);
        }
    }
    unsigned bits = _mm512_reduce_max_epu32(largest);
    float found;
    memcpy(&found, &bits, sizeof found);
    return found;
}

/* [channels][taps] -> [channels / 16][taps][16] */
static void by_lanes(const float *kernels, float *out, int channels, int taps) {
    for (int c = 0; c < channels; c++)
        for (int tap = 0; tap < taps; tap++)
            out[(c / LANES * taps + tap) * LANES + c % LANES] = kernels[c * taps + tap];
}

/* ---- forward ---- */

/* Pool 16 channels of an image. */
INLINE void pool(const Frame *frame, const float *framed, const float *kernels, __m512 shift,
                 __m512 slope, bf16 *y, Kept *kept, int channels, const int side,
                 const int average) {
    const size_t height = frame->height, width = frame->width, stride = frame->stride;
    const __m512 zero = _mm512_setzero_ps();
    __m512 kernel[MOST_TAPS];
    EACH(int tap = 0; tap < side * side; tap++)
    kernel[tap] = _mm512_load_ps(kernels + tap * LANES);
    for (size_t i = 0; i < height; i += 2) {
        const float *patch = framed + i * stride;
        for (size_t j = 0; j < width; j += 2, patch += 2, y += channels, kept++) {
            __m512 out[4] = {shift, shift, shift, shift}, pooled;
            EACH(int row = 0; row <= side; row++) {
                EACH(int column = 0; column <= side; column++) {
                    __m512 pixel = _mm512_set1_ps(patch[row * stride + column]);
                    EACH(int q = 0; q < 4; q++) {
                        int down = row - q / 2, right = column - q % 2;
                        if (down >= 0 && down < side && right >= 0 && right < side)
                            out[q] = _mm512_fmadd_ps(pixel, kernel[down * side + right], out[q]);
                    }
                }
            }
            if (average) {
                EACH(int q = 0; q < 4; q++) {
                    (*kept)[q] = _mm512_cmp_ps_mask(out[q], zero, _CMP_NGT_UQ);
                    out[q] = _mm512_mask_mul_ps(out[q], (*kept)[q], out[q], slope);
                }
                __m512 upper = _mm512_add_ps(out[0], out[1]), lower = _mm512_add_ps(out[2], out[3]);
                pooled = _mm512_mul_ps(_mm512_add_ps(upper, lower), _mm512_set1_ps(0.25f));
            } else {
                __m512 upper = _mm512_max_ps(out[0], out[1]), lower = _mm512_max_ps(out[2], out[3]);
                __mmask16 in_lower = _mm512_cmp_ps_mask(lower, upper, _CMP_GT_OQ);
                __mmask16 in_right =
                    (_mm512_cmp_ps_mask(out[1], out[0], _CMP_GT_OQ) & ~in_lower) |
                    _mm512_mask_cmp_ps_mask(in_lower, out[3], out[2], _CMP_GT_OQ);
                pooled = _mm512_max_ps(upper, lower);
                (*kept)[0] = in_right, (*kept)[1] = in_lower;
                (*kept)[2] = _mm512_cmp_ps_mask(pooled, zero, _CMP_NGT_UQ);
                pooled = _mm512_mask_mul_ps(pooled, (*kept)[2], pooled, slope);
            }
            store_bf16(y, pooled);
        }
    }
}

typedef void Pool(const Frame *, const float *, const float *, __m512, __m512, bf16 *, Kept *, int);
#define POOL(NAME, SIDE, AVERAGE)                                                                  \
    static void NAME(const Frame *frame, const float *framed, const float *kernels, __m512 shift,  \
                     __m512 slope, bf16 *y, Kept *kept, int channels) {                            \
        pool(frame, framed, kernels, shift, slope, y, kept, channels, SIDE, AVERAGE);              \
    }
POOL(pool_max_3, 3, 0)
POOL(pool_average_3, 3, 1)
POOL(pool_max_5, 5, 0)
POOL(pool_average_5, 5, 1)

/* Zero, or NaN where outputs of these channels may not be finite. A maximum could hide that. */
static __m512 doubt(const float *kernels, __m512 shift, int taps, float largest) {
    __m512 reach = _mm512_abs_ps(shift);
    for (int tap = 0; tap < taps; tap++)
        reach = _mm512_fmadd_ps(_mm512_abs_ps(_mm512_load_ps(kernels + tap * LANES)),
                                _mm512_set1_ps(largest), reach);
    return _mm512_mul_ps(reach, _mm512_setzero_ps());
}

/* y = pooling(activation(convolution(x) + shift)); no shift: NULL. kept: [images][channels / 16]
   [height/2 * width/2]. */
int images_pool(const float *x, const float *kernels, const float *shift, bf16 *y, Kept *kept,
                int images, int height, int width, int channels, int side, float slope,
                int average) {
    Frame frame = frame_of(height, width, side);
    int groups = channels / LANES, taps = side * side, pixels = height / 2 * (width / 2);
    float *framed = workspace((frame.size + (size_t)channels * taps) * sizeof(float));
    if (!framed) return 1;
    float *ours = framed + frame.size;
    Pool *best = side == 3 ? average ? pool_average_3 : pool_max_3
                           : average ? pool_average_5 : pool_max_5;
    by_lanes(kernels, ours, channels, taps);
    memset(framed, 0, frame.size * sizeof(float));
    for (int image = 0; image < images; image++, x += height * width) {
        float largest = place(&frame, x, framed);
        for (int group = 0; group < groups; group++, kept += pixels) {
            const float *own = ours + group * taps * LANES;
            __m512 start = shift ? _mm512_loadu_ps(shift + group * LANES) : _mm512_setzero_ps();
            start = _mm512_add_ps(start, doubt(own, start, taps, largest));
            best(&frame, framed, own, start, _mm512_set1_ps(slope),
                 y + (size_t)image * pixels * channels + group * LANES, kept, channels);
        }
    }
    return 0;
}

/* ---- backward ---- */

/* Put every row beside the next one, pixel by pixel: [][2]. The four pixels that a tap meets from
   the four outputs are neighbours there. */
static void pair(const Frame *frame, const float *framed, float *pairs) {
    size_t rows = frame->size - frame->stride - LANES;
    for (size_t i = 0; i < rows; i += 4, framed += 4, pairs += 8) {
        __m128 upper = _mm_load_ps(framed), lower = _mm_loadu_ps(framed + frame->stride);
        _mm_store_ps(pairs, _mm_unpacklo_ps(upper, lower));
        _mm_store_ps(pairs + 4, _mm_unpackhi_ps(upper, lower));
    }
}

/* Add the gradients of the kernels and of the shift of 16 channels, from one image, to `totals`:
   [taps + 1][16]. */
INLINE void back(const Frame *frame, const float *framed, const float *pairs, const bf16 *gradient,
                 const Kept *kept, __m512 slope, float *totals, int channels, const int side,
                 const int average) {
    const size_t height = frame->height, width = frame->width, stride = frame->stride;
    const int taps = side * side;
    const __m512i one = _mm512_set1_epi32(1), two = _mm512_set1_epi32(2);
    __m512 sums[MOST_TAPS + 1];
    EACH(int tap = 0; tap <= taps; tap++) sums[tap] = _mm512_setzero_ps();
    for (size_t i = 0; i < height; i += 2) {
        size_t first = i * stride;
        for (size_t j = 0; j < width; j += 2, first += 2, gradient += channels, kept++) {
            __m512 pooled = load_bf16(gradient);
            /* Or gcc keeps pixels for the next place, in registers that it does not have. */
            __asm__("" : "+r"(first));
            if (average) {
                pooled = _mm512_mul_ps(pooled, _mm512_set1_ps(0.25f));
                __m512 less = _mm512_mul_ps(pooled, slope), share[4];
                EACH(int q = 0; q < 4; q++) {
                    share[q] = _mm512_mask_mov_ps(pooled, (*kept)[q], less);
                    sums[taps] = _mm512_add_ps(sums[taps], share[q]);
                }
                const float *patch = framed + first;
                EACH(int row = 0; row <= side; row++) {
                    EACH(int column = 0; column <= side; column++) {
                        __m512 pixel = _mm512_set1_ps(patch[row * stride + column]);
                        EACH(int q = 0; q < 4; q++) {
                            int down = row - q / 2, right = column - q % 2;
                            int tap = down * side + right;
                            if (down >= 0 && down < side && right >= 0 && right < side)
                                sums[tap] = _mm512_fmadd_ps(pixel, share[q], sums[tap]);
                        }
                    }
                }
            } else {
                __m512 share = _mm512_mask_mul_ps(pooled, (*kept)[2], pooled, slope);
                __m512i chosen = _mm512_maskz_mov_epi32((*kept)[1], one);
                chosen = _mm512_mask_or_epi32(chosen, (*kept)[0], chosen, two);
                sums[taps] = _mm512_add_ps(sums[taps], share);
                EACH(int tap = 0; tap < taps; tap++) {
                    const float *met = pairs + 2 * (first + tap / side * stride + tap % side);
                    __m512 pixel = _mm512_permutexvar_ps(chosen, _mm512_loadu_ps(met));
                    sums[tap] = _mm512_fmadd_ps(pixel, share, sums[tap]);
                }
            }
        }
    }
    EACH(int tap = 0; tap <= taps; tap++) {
        float *total = totals + tap * LANES;
        _mm512_store_ps(total, _mm512_add_ps(_mm512_load_ps(total), sums[tap]));
    }
}

typedef void Back(const Frame *, const float *, const float *, const bf16 *, const Kept *, __m512,
                  float *, int);
#define BACK(NAME, SIDE, AVERAGE)                                                                  \
    static void NAME(const Frame *frame, const float *framed, const float *pairs,                  \
                     const bf16 *gradient, const Kept *kept, __m512 slope, float *totals,          \
                     int channels) {                                                               \
        back(frame, framed, pairs, gradient, kept, slope, totals, channels, SIDE, AVERAGE);        \
    }
BACK(back_max_3, 3, 0)
BACK(back_average_3, 3, 1)
BACK(back_max_5, 5, 0)
BACK(back_average_5, 5, 1)

/* The gradients of kernels [channels][side][side] and shift [channels], NULL where it is not
   wanted. */
int images_pool_gradient(const float *x, const Kept *kept, const bf16 *gradient, float *of_kernels,
                         float *of_shift, int images, int height, int width, int channels, int side,
                         float slope, int average) {
    Frame frame = frame_of(height, width, side);
    int groups = channels / LANES, taps = side * side, pixels = height / 2 * (width / 2);
    size_t sums = (size_t)channels * (taps + 1);
    float *framed = workspace((3 * frame.size + sums) * sizeof(float));
    if (!framed) return 1;
    float *pairs = framed + frame.size, *totals = pairs + 2 * frame.size;
    Back *best = side == 3 ? average ? back_average_3 : back_max_3
                           : average ? back_average_5 : back_max_5;
    memset(framed, 0, frame.size * sizeof(float));
    memset(totals, 0, sums * sizeof(float));
    for (int image = 0; image < images; image++, x += height * width) {
        place(&frame, x, framed);
        if (!average) pair(&frame, framed, pairs);
        const bf16 *of_image = gradient + (size_t)image * pixels * channels;
        for (int group = 0; group < groups; group++, kept += pixels)
            best(&frame, framed, pairs, of_image + group * LANES, kept, _mm512_set1_ps(slope),
                 totals + group * (taps + 1) * LANES, channels);
    }
    for (int c = 0; c < channels; c++) {
        const float *own = totals + c / LANES * (taps + 1) * LANES + c % LANES;
        for (int tap = 0; tap < taps; tap++) of_kernels[c * taps + tap] = own[tap * LANES];
        if (of_shift) of_shift[c] = own[taps * LANES];
    }
    return 0;
}

/* ---- what a kernel sees ---- */

/* Over all its places, tap (r, s) and tap (r+d, t) of a kernel meet pairs of rows of the frame that
   lie d apart. Their products are the same for every r; the pairs differ at the edges only. So the
   rows are summed up in parts: each that not every tap meets is one, and all others are one. */

#define MOST_PARTS MOST_SIDE

typedef struct {
    int first, end; /* rows of the frame */
} Part;

static int parts_of(const Frame *frame, Part parts[MOST_PARTS]) {
    int top = frame->side / 2, bottom = top + frame->height, count = 0; /* the rows not of zeros */
    int meet = frame->side - 1, part = frame->height; /* every tap meets these rows: [meet, part) */
    for (int row = top; row < bottom; row++) {
        int last = row < meet || row >= part ? row + 1 : part;
        parts[count++] = (Part){row, last};
        row = last - 1;
    }
    return count;
}

/* Add the products of columns of rows that lie apart: out [side][side][16]. */
INLINE void multiply(const Frame *frame, const float *upper, const float *lower, int rows,
                     double *out, const int side) {
    __m512 sums[MOST_TAPS], below[MOST_SIDE];
    EACH(int i = 0; i < side * side; i++) sums[i] = _mm512_setzero_ps();
    for (int row = 0; row < rows; row++, upper += frame->stride, lower += frame->stride) {
        for (int j = 0; j < frame->width; j += LANES) {
            __mmask16 inside = first_of(frame->width - j);
            EACH(int t = 0; t < side; t++) below[t] = _mm512_loadu_ps(lower + j + t);
            EACH(int s = 0; s < side; s++) {
                __m512 above = _mm512_maskz_loadu_ps(inside, upper + j + s);
                EACH(int t = 0; t < side; t++)
                sums[s * side + t] = _mm512_fmadd_ps(above, below[t], sums[s * side + t]);
            }
        }
    }
    EACH(int i = 0; i < side * side; i++) {
        double *half = out + i * LANES;
        __m256 low = _mm512_castps512_ps256(sums[i]), high = _mm512_extractf32x8_ps(sums[i], 1);
        _mm512_store_pd(half, _mm512_add_pd(_mm512_load_pd(half), _mm512_cvtps_pd(low)));
        half += LANES / 2;
        _mm512_store_pd(half, _mm512_add_pd(_mm512_load_pd(half), _mm512_cvtps_pd(high)));
    }
}

static void multiply_3(const Frame *frame, const float *upper, const float *lower, int rows,
                       double *out) {
    multiply(frame, upper, lower, rows, out, 3);
}

static void multiply_5(const Frame *frame, const float *upper, const float *lower, int rows,
                       double *out) {
    multiply(frame, upper, lower, rows, out, 5);
}

/* Mean [taps] and covariance [taps][taps] of what a kernel sees over all its places. */
static int moments(const float *x, double *mean, double *covariance, int images, int height,
                   int width, int side) {
    Frame frame = frame_of(height, width, side);
    Part parts[MOST_PARTS];
    int taps = side * side, count = parts_of(&frame, parts);
    size_t products = (size_t)side * count * taps * LANES; /* [apart][part][s][t][16] */
    double *sums = workspace((products + frame.size) * sizeof(double) + frame.size * sizeof(float));
    if (!sums) return 1;
    double *sum = sums + products; /* of the images */
    float *framed = (float *)(sum + frame.size);
    memset(sums, 0, (char *)(framed + frame.size) - (char *)sums);
    for (int image = 0; image < images; image++, x += height * width) {
        place(&frame, x, framed);
        for (size_t i = 0; i < frame.size; i++) sum[i] += framed[i];
        double *out = sums;
        for (int apart = 0; apart < side; apart++) {
            for (int p = 0; p < count; p++, out += taps * LANES) {
                const float *row = framed + parts[p].first * frame.stride;
                int rows = parts[p].end - parts[p].first;
                int left = side / 2 + height - apart - parts[p].first; /* rows not of zeros */
                (side == 3 ? multiply_3 : multiply_5)(&frame, row, row + apart * frame.stride,
                                                      rows < left ? rows : left, out);
            }
        }
    }
    double places = (double)images * height * width;
    for (int tap = 0; tap < taps; tap++) {
        const double *row = sum + tap / side * frame.stride + tap % side;
        double total = 0;
        for (int i = 0; i < height; i++, row += frame.stride)
            for (int j = 0; j < width; j++) total += row[j];
        mean[tap] = total / places;
    }
    for (int apart = 0; apart < side; apart++) {
        for (int r = 0; r + apart < side; r++) {
            for (int i = 0; i < taps; i++) {
                double total = 0;
                for (int p = 0; p < count; p++) {
                    const double *own = sums + ((size_t)(apart * count + p) * taps + i) * LANES;
                    int met = parts[p].first >= r && parts[p].end <= r + height;
                    for (int lane = 0; met && lane < LANES; lane++) total += own[lane];
                }
                int a = r * side + i / side, b = (r + apart) * side + i % side;
                covariance[a * taps + b] = total / places - mean[a] * mean[b];
                covariance[b * taps + a] = covariance[a * taps + b];
            }
        }
    }
    return 0;
}

/* ---- batch norm as a part of the kernel ---- */

/* scaled, shift: the kernels [channels][taps] and shift [channels] that convolve and normalise with
   the statistics of the batch, which the running ones follow. seen: [channels + 1][taps + 2], for
   each kernel its product with the covariance, the mean and the inverse deviation of its outputs;
   in the last row what the taps see in the mean. */
int images_normalise(const float *x, const float *kernels, const float *weight, const float *bias,
                     float *running_mean, float *running_variance, float *scaled, float *shift,
                     float *seen, int images, int height, int width, int channels, int side,
                     double eps, double momentum) {
    double average[MOST_TAPS], covariance[MOST_TAPS * MOST_TAPS];
    double places = (double)images * height * width;
    int taps = side * side;
    if (moments(x, average, covariance, images, height, width, side)) return 1;
    for (int c = 0; c < channels; c++, kernels += taps, scaled += taps, seen += taps + 2) {
        double mean = 0, variance = 0;
        for (int a = 0; a < taps; a++) {
            double spread = 0;
            for (int b = 0; b < taps; b++) spread += covariance[a * taps + b] * kernels[b];
            mean += kernels[a] * average[a];
            variance += kernels[a] * spread;
            seen[a] = (float)spread;
        }
        if (variance < 0) variance = 0;
        double inverse = 1 / sqrt(variance + eps), scale = weight[c] * inverse;
        for (int tap = 0; tap < taps; tap++) scaled[tap] = (float)(kernels[tap] * scale);
        shift[c] = (float)(bias[c] - mean * scale);
        seen[taps] = (float)mean, seen[taps + 1] = (float)inverse;
        running_mean[c] += (float)(momentum * (mean - running_mean[c]));
        variance *= places / (places - 1); /* as PyTorch */
        running_variance[c] += (float)(momentum * (variance - running_variance[c]));
    }
    for (int tap = 0; tap < taps; tap++) seen[tap] = (float)average[tap];
    return 0;
}

/* Turn the gradient of the scaled kernels into that of the kernels, in place. That of the norm's
   bias is that of the shift. */
int images_normalise_gradient(const float *kernels, const float *weight, const float *seen,
                              float *of_kernels, const float *of_shift, float *of_weight,
                              int channels, int side) {
    int taps = side * side;
    const float *average = seen + (size_t)channels * (taps + 2);
    for (int c = 0; c < channels; c++, kernels += taps, of_kernels += taps, seen += taps + 2) {
        double inverse = seen[taps + 1], scale = weight[c] * inverse;
        double of_scale = -(double)of_shift[c] * seen[taps];
        for (int tap = 0; tap < taps; tap++) of_scale += (double)of_kernels[tap] * kernels[tap];
        of_weight[c] = (float)(of_scale * inverse);
        double of_mean = -of_shift[c] * scale;
        double of_variance = -0.5 * of_scale * scale * inverse * inverse;
        for (int tap = 0; tap < taps; tap++)
            of_kernels[tap] = (float)(of_kernels[tap] * scale + 2 * of_variance * seen[tap] +
                                      of_mean * average[tap]);
    }
    return 0;
}
