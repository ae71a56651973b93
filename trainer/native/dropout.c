/* Dropout and the change from channels last to channel order, in one operation.

   The masks are those of `trainer.streams`: a value's number is a hash of its position in channel
   order, whatever the order in memory, so nothing but the keys has to be kept for the gradient. */

#include "kernels.h"

/* The two multiplications of lowbias32. */
#define MULTIPLY_1 0x7FEB352Du
#define MULTIPLY_2 0x846CA68Bu

static uint32_t mixed(uint32_t x) {
    x = (x ^ x >> 16) * MULTIPLY_1;
    x = (x ^ x >> 15) * MULTIPLY_2;
    return x ^ x >> 16;
}

/* What the numbers of a step and the choice by them need, in every lane. */
typedef struct {
    __m512i first, second, limit;
    __m512 scale;
} Mask;

static Mask mask_of(const Dropout *dropout) {
    uint32_t step = mixed(dropout->step + 1);
    uint32_t first = mixed(dropout->keys[0] ^ step), second = mixed(dropout->keys[1] ^ step);
    __m256i scale = to_bf16(_mm512_set1_ps(dropout->scale));
    return (Mask){
        .first = _mm512_set1_epi32(first),
        /* The key goes in before a shift and an exclusive or, which it passes by itself. */
        .second = _mm512_set1_epi32(second ^ second >> 15),
        /* A number is the upper 24 bits, kept from `drop` on, which is not 0. */
        .limit = _mm512_set1_epi32((dropout->drop << 8) - 1),
        .scale = (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(scale), 16),
    };
}

/* 0 or the scale for values at these positions, to which the first key is added. */
static inline __m512 factors(const Mask *mask, __m512i x) {
    const int exclusive_or = 0x96; /* of all three */
    x = _mm512_xor_epi32(x, _mm512_srli_epi32(x, 16));
    x = _mm512_mullo_epi32(x, _mm512_set1_epi32(MULTIPLY_1));
    x = _mm512_ternarylogic_epi32(x, _mm512_srli_epi32(x, 15), mask->second, exclusive_or);
    x = _mm512_mullo_epi32(x, _mm512_set1_epi32((int)MULTIPLY_2));
    return _mm512_maskz_mov_ps(_mm512_cmpgt_epu32_mask(x, mask->limit), mask->scale);
}

/* 32 values of bf16 times their factors; the odd ones' positions are so much further on. */
static inline __m512i product(const Mask *mask, __m512i x, __m512i even, __m512i further) {
    const __m512i upper = _mm512_set1_epi32((int)0xFFFF0000);
    const __m512i pairs = _mm512_set_epi32(
        0x1F000F, 0x1E000E, 0x1D000D, 0x1C000C, 0x1B000B, 0x1A000A, 0x190009, 0x180008, 0x170007,
        0x160006, 0x150005, 0x140004, 0x130003, 0x120002, 0x110001, 0x100000);
    __m512 a = _mm512_mul_ps((__m512)_mm512_slli_epi32(x, 16), factors(mask, even));
    __m512 b = _mm512_mul_ps((__m512)_mm512_and_epi32(x, upper),
                             factors(mask, _mm512_add_epi32(even, further)));
    return _mm512_permutexvar_epi16(pairs, (__m512i)_mm512_cvtne2ps_pbh(b, a));
}

/* [pixels][channels], the first at this position, those of a channel in a row. */
static void drop(const bf16 *x, bf16 *y, int pixels, int channels, uint32_t position,
                 const Mask *mask) {
    __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i further = _mm512_set1_epi32(pixels), next = _mm512_set1_epi32(32 * pixels);
    __m512i first = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(2 * pixels));
    first = _mm512_add_epi32(first, _mm512_add_epi32(mask->first, _mm512_set1_epi32(position)));
    int whole = channels / 32 * 32;
    __mmask32 rest = ((uint32_t)1 << (channels - whole)) - 1;
    for (int pixel = 0; pixel < pixels; pixel++, x += channels, y += channels) {
        __m512i at = _mm512_add_epi32(first, _mm512_set1_epi32(pixel));
        for (int c = 0; c < whole; c += 32, at = _mm512_add_epi32(at, next))
            _mm512_storeu_si512(y + c, product(mask, _mm512_loadu_si512(x + c), at, further));
        if (rest) {
            __m512i last = _mm512_maskz_loadu_epi16(rest, x + whole);
            _mm512_mask_storeu_epi16(y + whole, rest, product(mask, last, at, further));
        }
    }
}

/* 8 values of each of four rows, one behind the other. */
static inline __m512i take(const bf16 *a, const bf16 *b, const bf16 *c, const bf16 *d) {
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)a));
    x = _mm512_mask_broadcast_i32x4(x, 0x00F0, _mm_loadu_si128((const __m128i *)b));
    x = _mm512_mask_broadcast_i32x4(x, 0x0F00, _mm_loadu_si128((const __m128i *)c));
    return _mm512_mask_broadcast_i32x4(x, 0xF000, _mm_loadu_si128((const __m128i *)d));
}

/* 32 rows of 8 columns, from this one on, to 8 rows, so far apart, of as many columns as there are
   bits. */
static inline void transpose_tile(const bf16 *const row[32], int column, bf16 *to, size_t apart,
                                  __mmask32 bits) {
    __m512i a[8], b[8];
    /* In each of four lanes of 128 bits, 8 rows of 8 columns. */
    EACH (int i = 0; i < 8; i++)
        a[i] = take(row[i] + column, row[i + 8] + column, row[i + 16] + column,
                    row[i + 24] + column);
    EACH (int i = 0; i < 8; i += 2) {
        b[i] = _mm512_unpacklo_epi16(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi16(a[i], a[i + 1]);
    }
    EACH (int i = 0; i < 8; i += 4) {
        EACH (int j = 0; j < 2; j++) {
            a[i + 2 * j] = _mm512_unpacklo_epi32(b[i + j], b[i + j + 2]);
            a[i + 2 * j + 1] = _mm512_unpackhi_epi32(b[i + j], b[i + j + 2]);
        }
    }
    EACH (int i = 0; i < 4; i++) {
        b[2 * i] = _mm512_unpacklo_epi64(a[i], a[i + 4]);
        b[2 * i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 4]);
    }
    EACH (int i = 0; i < 8; i++)
        _mm512_mask_storeu_epi16(to + i * apart, bits, b[i]);
}

static int smaller(int a, int b) { return a < b ? a : b; }

/* [rows][columns] to [columns][rows]. The last tile overlaps the one before. */
static void transpose(const bf16 *x, bf16 *y, int rows, int columns) {
    if (rows < 8 || columns < 8) {
        for (int c = 0; c < columns; c++)
            for (int r = 0; r < rows; r++) y[(size_t)c * rows + r] = x[(size_t)r * columns + c];
        return;
    }
    int high = smaller(rows, 32);
    __mmask32 bits = (uint32_t)(((uint64_t)1 << high) - 1);
    for (int r = 0; r < rows; r += 32) {
        int top = smaller(r, rows - high);
        const bf16 *row[32]; /* where there are fewer, the last one again: it is not written */
        for (int i = 0; i < 32; i++)
            row[i] = x + (size_t)(top + smaller(i, high - 1)) * columns;
        for (int c = 0; c < columns; c += 8) {
            int left = smaller(c, columns - 8);
            transpose_tile(row, left, y + (size_t)left * rows + top, rows, bits);
        }
    }
}

int drop_values(const bf16 *x, bf16 *y, int images, int pixels, int channels, int turn,
                const Dropout *dropout) {
    int values = pixels * channels, any = dropout->drop > 0;
    bf16 *between = workspace(values * sizeof(bf16)); /* of one image: it stays in the cache */
    if (!between) return 1;
    Mask mask = mask_of(dropout);
    for (int image = 0; image < images; image++, x += values, y += values) {
        uint32_t position = (uint32_t)image * values;
        if (turn == SAME_ORDER) {
            drop(x, y, pixels, channels, position, &mask);
        } else if (turn == TO_CHANNEL_ORDER) {
            transpose(x, any ? between : y, pixels, channels);
            if (any) drop(between, y, 1, values, position, &mask);
        } else {
            if (any) drop(x, between, 1, values, position, &mask);
            transpose(any ? between : x, y, channels, pixels);
        }
    }
    return 0;
}
