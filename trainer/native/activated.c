/* y = pool(act(x * scale + shift)), forward and backward, over bf16 pixels [N][H][W][C].

   act multiplies what is not positive with `slope`; pool takes the largest or the average of 2x2
   pixels, or nothing. Scale and shift are those of a batch norm with the statistics of the batch, or
   the scale is 1 and the shift a bias. Each layer alone would read and write all activations; here
   they are read once for the statistics and once for the result, and nothing but them is kept:
   backward computes the rest again.

   Maxima are taken of x, or of -x where the scale is negative, before anything else: the same as
   afterwards but for rounding, which makes values equal that are not. Of equal ones the first
   counts. */

#include <math.h>

#include "kernels.h"

enum { NONE, LARGEST, AVERAGE }; /* pooling */

/* A strip: pixels that a pass takes together, in the first level of the cache: a row of windows, or
   so many pixels where there is no pooling. */
#define STRIP 32

typedef struct {
    int images, height, width, channels;
    const float *mean, *inverse, *scale, *shift; /* [C]; without a norm only shift */
    float slope;
} layer;

/* Sums and sums of squares, [C] each, of pixels less `origin`. */
INLINE void add_moments(const int vectors, const bf16 *x, int pixels, int channels,
                        const float *origin, float *sum, float *square) {
    __m512 from[vectors], s[vectors], q[vectors];
    EACH (int v = 0; v < vectors; v++) {
        from[v] = _mm512_loadu_ps(origin + v * LANES);
        s[v] = q[v] = _mm512_setzero_ps();
    }
    for (int p = 0; p < pixels; p++) {
        EACH (int v = 0; v < vectors; v++) {
            __m512 d = _mm512_sub_ps(load_bf16(x + (size_t)p * channels + v * LANES), from[v]);
            s[v] = _mm512_add_ps(s[v], d);
            q[v] = _mm512_fmadd_ps(d, d, q[v]);
        }
    }
    EACH (int v = 0; v < vectors; v++) {
        float *to = sum + v * LANES;
        _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), s[v]));
        to = square + v * LANES;
        _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), q[v]));
    }
}

static void moments(const bf16 *x, size_t pixels, int channels, const float *origin, float *sum,
                    float *square) {
    for (int c = 0; c < channels; c++) sum[c] = square[c] = 0;
    for (size_t p = 0; p < pixels; p += STRIP) {
        const bf16 *strip = x + p * channels;
        int count = pixels - p < STRIP ? (int)(pixels - p) : STRIP;
        int c = 0;
        for (; c + 2 * LANES <= channels; c += 2 * LANES)
            add_moments(2, strip + c, count, channels, origin + c, sum + c, square + c);
        if (c < channels)
            add_moments(1, strip + c, count, channels, origin + c, sum + c, square + c);
    }
}

int batch_statistics(const bf16 *x, size_t pixels, int channels, const float *weight,
                     const float *bias, float *running_mean, float *running_variance,
                     float momentum, float eps, float *statistics) {
    float *sum = workspace((size_t)channels * 3 * sizeof(float));
    if (!sum) return 1;
    float *square = sum + channels, *origin = square + channels;
    /* Sums are taken of differences from the mean of the first pixels: near enough to the mean of
       all that the variance, a difference of sums, is precise whatever the mean. */
    size_t first = pixels / 64 + 1;
    for (int c = 0; c < channels; c++) origin[c] = 0;
    moments(x, first, channels, origin, sum, square);
    for (int c = 0; c < channels; c++) origin[c] = sum[c] / (float)first;
    moments(x, pixels, channels, origin, sum, square);
    float *mean = statistics, *inverse = mean + channels, *scale = inverse + channels,
          *shift = scale + channels;
    for (int c = 0; c < channels; c++) {
        double from = sum[c] / (double)pixels;
        double squares = square[c] - sum[c] * from;
        if (squares < 0) squares = 0; /* but not what is no number */
        double middle = origin[c] + from;
        mean[c] = (float)middle;
        inverse[c] = (float)(1 / sqrt(squares / (double)pixels + eps));
        scale[c] = weight[c] * inverse[c];
        shift[c] = (float)(bias[c] - middle * scale[c]);
        float unbiased = (float)(squares / (double)(pixels - 1));
        running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean[c];
        running_variance[c] = (1 - momentum) * running_variance[c] + momentum * unbiased;
    }
    return 0;
}

/* How a pass walks over the strips of a layer: `strip` of them, x and y are at these pixels. */
INLINE size_t strips(const int pooling, const layer *l) {
    if (pooling) return (size_t)l->images * (l->height / 2);
    return ((size_t)l->images * l->height * l->width + STRIP - 1) / STRIP;
}

typedef struct {
    size_t x, y; /* its first pixels */
    int count;   /* pixels of y */
} place;

INLINE place place_of(const int pooling, const layer *l, size_t strip) {
    if (pooling) {
        size_t half = l->height / 2, image = strip / half;
        size_t row = image * l->height + 2 * (strip % half);
        return (place){row * l->width, strip * (l->width / 2), l->width / 2};
    }
    size_t left = (size_t)l->images * l->height * l->width - strip * STRIP;
    return (place){strip * STRIP, strip * STRIP, left < STRIP ? (int)left : STRIP};
}

/* What the pixels of a window are multiplied with to compare them: the bits of -0 or of 0. */
INLINE __m512 sign_of(__m512 scale) { return _mm512_and_ps(scale, _mm512_set1_ps(-0.0f)); }

INLINE __m512 act(__m512 v, __m512 slope) {
    __mmask16 low = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LE_OQ);
    return _mm512_mask_mul_ps(v, low, v, slope);
}

/* The gradient of what went into `act` as v. */
INLINE __m512 act_gradient(__m512 v, __m512 slope, __m512 gradient) {
    __mmask16 low = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LE_OQ);
    return _mm512_mask_mul_ps(gradient, low, gradient, slope);
}

INLINE __m512 affine(const int normed, __m512 x, __m512 scale, __m512 shift) {
    return normed ? _mm512_fmadd_ps(x, scale, shift) : _mm512_add_ps(x, shift);
}

/* The largest of four pixels, or their sum where one of them is no number: a norm makes that a whole
   channel of them, but nothing else would show it. */
INLINE __m512 largest(const int normed, const __m512 x[4]) {
    __m512 upper = _mm512_max_ps(x[0], x[1]), lower = _mm512_max_ps(x[2], x[3]);
    __m512 most = _mm512_max_ps(upper, lower);
    if (normed) return most;
    __mmask16 none = _mm512_cmp_ps_mask(x[0], x[1], _CMP_UNORD_Q) |
                     _mm512_cmp_ps_mask(x[2], x[3], _CMP_UNORD_Q);
    __m512 sum = _mm512_add_ps(_mm512_add_ps(x[0], x[1]), _mm512_add_ps(x[2], x[3]));
    return _mm512_mask_mov_ps(most, none, sum);
}

INLINE void forward(const int pooling, const int normed, const layer *l, const bf16 *x, bf16 *y) {
    const size_t channels = l->channels, row = l->width * channels;
    const size_t corner[4] = {0, channels, row, row + channels};
    const __m512 slope = _mm512_set1_ps(l->slope);
    const size_t all = strips(pooling, l);
    for (size_t strip = 0; strip < all; strip++) {
        place at = place_of(pooling, l, strip);
        for (size_t c = 0; c < channels; c += LANES) {
            const __m512 scale = normed ? _mm512_loadu_ps(l->scale + c) : _mm512_setzero_ps();
            const __m512 shift = _mm512_loadu_ps(l->shift + c), sign = sign_of(scale);
            const bf16 *from = x + at.x * channels + c;
            bf16 *to = y + at.y * channels + c;
            for (int p = 0; p < at.count; p++) {
                __m512 v;
                if (pooling == NONE) {
                    v = act(affine(normed, load_bf16(from), scale, shift), slope);
                } else {
                    __m512 each[4];
                    EACH (int i = 0; i < 4; i++) each[i] = load_bf16(from + corner[i]);
                    if (pooling == LARGEST) {
                        if (normed)
                            EACH (int i = 0; i < 4; i++)
                                each[i] = _mm512_xor_ps(each[i], sign);
                        v = largest(normed, each);
                        if (normed) v = _mm512_xor_ps(v, sign);
                        v = act(affine(normed, v, scale, shift), slope);
                    } else {
                        EACH (int i = 0; i < 4; i++)
                            each[i] = act(affine(normed, each[i], scale, shift), slope);
                        v = _mm512_add_ps(_mm512_add_ps(each[0], each[1]),
                                          _mm512_add_ps(each[2], each[3]));
                        v = _mm512_mul_ps(v, _mm512_set1_ps(0.25f));
                    }
                }
                store_bf16(to, v);
                from += (pooling ? 2 : 1) * channels;
                to += channels;
            }
        }
    }
}

/* The gradient of pixels that are in no window: what comes by the statistics. */
INLINE void write_rest(const int normed, const bf16 *x, bf16 *dx, int pixels, size_t channels,
                       const float *factor, const float *offset) {
    for (int p = 0; p < pixels; p++)
        for (size_t c = 0; c < channels; c += LANES) {
            size_t at = p * channels + c;
            __m512 v = _mm512_setzero_ps();
            if (normed)
                v = _mm512_fmadd_ps(load_bf16(x + at), _mm512_loadu_ps(factor + c),
                                    _mm512_loadu_ps(offset + c));
            store_bf16(dx + at, v);
        }
}

/* One pass of backward. Summing: adds up the gradients g of the activation's inputs and, with a norm,
   g * (x - mean), [C] each. Writing: dx = scale * g + factor * x + offset with a norm, else g. */
INLINE void backward(const int pooling, const int normed, const int summing, const int writing,
                     const layer *l, const bf16 *x, const bf16 *gradient, bf16 *dx, float *sum,
                     float *product, const float *factor, const float *offset) {
    const int pixels = pooling ? 4 : 1; /* of a window */
    const size_t channels = l->channels, row = l->width * channels;
    const size_t corner[4] = {0, channels, row, row + channels};
    const __m512 slope = _mm512_set1_ps(l->slope), zero = _mm512_setzero_ps();
    const size_t all = strips(pooling, l);
    for (size_t strip = 0; strip < all; strip++) {
        place at = place_of(pooling, l, strip);
        for (size_t c = 0; c < channels; c += LANES) {
            const __m512 scale = normed ? _mm512_loadu_ps(l->scale + c) : zero;
            const __m512 shift = _mm512_loadu_ps(l->shift + c), sign = sign_of(scale);
            const __m512 mean = normed && summing ? _mm512_loadu_ps(l->mean + c) : zero;
            const __m512 times = normed && writing ? _mm512_loadu_ps(factor + c) : zero;
            const __m512 plus = normed && writing ? _mm512_loadu_ps(offset + c) : zero;
            const size_t start = at.x * channels + c;
            const bf16 *from = x + start, *given = gradient + at.y * channels + c;
            bf16 *to = writing ? dx + start : NULL;
            __m512 s = zero, q = zero;
            for (int p = 0; p < at.count; p++) {
                __m512 g = load_bf16(given), each[4], out[4];
                EACH (int i = 0; i < pixels; i++) {
                    each[i] = load_bf16(from + corner[i]);
                    if (normed && writing)
                        out[i] = _mm512_fmadd_ps(each[i], times, plus);
                    else
                        out[i] = zero;
                }
                if (pooling == AVERAGE) {
                    g = _mm512_mul_ps(g, _mm512_set1_ps(0.25f));
                    EACH (int i = 0; i < 4; i++) {
                        __m512 own = act_gradient(affine(normed, each[i], scale, shift), slope, g);
                        if (summing) s = _mm512_add_ps(s, own);
                        if (summing && normed)
                            q = _mm512_fmadd_ps(_mm512_sub_ps(each[i], mean), own, q);
                        if (writing) out[i] = normed ? _mm512_fmadd_ps(own, scale, out[i]) : own;
                    }
                } else {
                    __m512 chosen = each[0];
                    __mmask16 in_b = 0, in_d = 0, in_lower = 0;
                    if (pooling == LARGEST) {
                        __m512 key[4];
                        EACH (int i = 0; i < 4; i++)
                            key[i] = normed ? _mm512_xor_ps(each[i], sign) : each[i];
                        __m512 upper = _mm512_max_ps(key[0], key[1]);
                        __m512 lower = _mm512_max_ps(key[2], key[3]);
                        chosen = _mm512_max_ps(upper, lower);
                        if (normed) chosen = _mm512_xor_ps(chosen, sign);
                        if (writing) {
                            in_b = _mm512_cmp_ps_mask(key[1], key[0], _CMP_GT_OQ);
                            in_d = _mm512_cmp_ps_mask(key[3], key[2], _CMP_GT_OQ);
                            in_lower = _mm512_cmp_ps_mask(lower, upper, _CMP_GT_OQ);
                        }
                    }
                    g = act_gradient(affine(normed, chosen, scale, shift), slope, g);
                    if (summing) s = _mm512_add_ps(s, g);
                    if (summing && normed)
                        q = _mm512_fmadd_ps(_mm512_sub_ps(chosen, mean), g, q);
                    if (writing && normed) g = _mm512_mul_ps(g, scale);
                    if (writing && pooling == LARGEST) {
                        __mmask16 at_pixel[4] = {~in_lower & ~in_b, ~in_lower & in_b,
                                                 in_lower & ~in_d, in_lower & in_d};
                        EACH (int i = 0; i < 4; i++)
                            out[i] = normed ? _mm512_mask_add_ps(out[i], at_pixel[i], out[i], g)
                                            : _mm512_maskz_mov_ps(at_pixel[i], g);
                    }
                    if (writing && pooling == NONE) out[0] = normed ? _mm512_add_ps(out[0], g) : g;
                }
                if (writing) {
                    EACH (int i = 0; i < pixels; i++) store_bf16(to + corner[i], out[i]);
                    to += (pooling ? 2 : 1) * channels;
                }
                from += (pooling ? 2 : 1) * channels;
                given += channels;
            }
            if (summing)
                _mm512_storeu_ps(sum + c, _mm512_add_ps(_mm512_loadu_ps(sum + c), s));
            if (summing && normed)
                _mm512_storeu_ps(product + c, _mm512_add_ps(_mm512_loadu_ps(product + c), q));
        }
        if (writing && pooling) { /* the last column and row of odd sizes are in no window */
            size_t below = at.x * channels + row, past = row - channels;
            if (l->width % 2)
                for (int i = 0; i < 2; i++) {
                    size_t start = at.x * channels + i * row + past;
                    write_rest(normed, x + start, dx + start, 1, channels, factor, offset);
                }
            if (l->height % 2 && strip % (l->height / 2) == (size_t)l->height / 2 - 1)
                write_rest(normed, x + below + row, dx + below + row, l->width, channels, factor,
                           offset);
        }
    }
}

/* Calls a function with pooling as a constant, so that its loops contain no choices. */
#define SPECIALISED(function, pooling, ...)                                                        \
    switch (pooling) {                                                                             \
    case NONE: function(NONE, __VA_ARGS__); break;                                                 \
    case LARGEST: function(LARGEST, __VA_ARGS__); break;                                           \
    default: function(AVERAGE, __VA_ARGS__);                                                       \
    }

static layer layer_of(int images, int height, int width, int channels, const float *statistics,
                      const float *shift, float slope) {
    layer l = {.images = images, .height = height, .width = width, .channels = channels,
               .shift = shift, .slope = slope};
    if (statistics) {
        l.mean = statistics;
        l.inverse = l.mean + channels;
        l.scale = l.inverse + channels;
        l.shift = l.scale + channels;
    }
    return l;
}

int activate(const bf16 *x, bf16 *y, int images, int height, int width, int channels,
             const float *statistics, const float *shift, float slope, int pooling) {
    layer l = layer_of(images, height, width, channels, statistics, shift, slope);
    if (statistics)
        SPECIALISED(forward, pooling, 1, &l, x, y)
    else
        SPECIALISED(forward, pooling, 0, &l, x, y)
    return 0;
}

int activate_backward(const bf16 *x, const bf16 *gradient, bf16 *dx, int images, int height,
                      int width, int channels, const float *statistics, const float *shift,
                      float slope, int pooling, float *dweight, float *dbias) {
    layer l = layer_of(images, height, width, channels, statistics, shift, slope);
    for (int c = 0; c < channels; c++) dbias[c] = 0;
    if (!statistics) {
        SPECIALISED(backward, pooling, 0, 1, 1, &l, x, gradient, dx, dbias, NULL, NULL, NULL)
        return 0;
    }
    float *factor = workspace((size_t)channels * 2 * sizeof(float));
    if (!factor) return 1;
    float *offset = factor + channels;
    for (int c = 0; c < channels; c++) dweight[c] = 0;
    SPECIALISED(backward, pooling, 1, 1, 0, &l, x, gradient, NULL, dbias, dweight, NULL, NULL)
    /* With h = (x - mean) * inverse, dx = scale * (g - average of g - h * average of g * h). */
    const float count = (float)((double)images * height * width);
    for (int c = 0; c < channels; c++) {
        dweight[c] *= l.inverse[c];
        factor[c] = -l.scale[c] * l.inverse[c] * dweight[c] / count;
        offset[c] = -l.scale[c] * dbias[c] / count - factor[c] * l.mean[c];
    }
    SPECIALISED(backward, pooling, 1, 0, 1, &l, x, gradient, dx, NULL, NULL, factor, offset)
    return 0;
}
