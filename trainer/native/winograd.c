/* 3x3 convolutions (stride 1, padding 1) in bf16 with fewer multiplications.

   Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray, 2016): a tile of 4x4 inputs d and the
   kernel g give 2x2 outputs Y = A'[(G g G') * (B'd B)]A with 16 multiplications instead of 36. Over
   channels, each of the 16 places of a tile is a matrix product of its own:

       M[place] [tiles, K] = V[place] [tiles, C] U[place] [C, K],   V = B'd B,  U = G g G'

   The gradient of the input is a convolution as well, with the kernel turned around; that of the
   kernel is dg = G'[V' (A dY A')]G, again 16 products. Products take bf16 and add up in fp32;
   transforms are computed in fp32. Activations are [N, H, W, channels], channels % 16 == 0.

   Tiles are worked on in blocks that stay in the second-level cache. Where H or W is odd, the last
   row or column of tiles has one output, for which the places of row or column 3 are not needed:
   there are four kinds of places, each with its own count of tiles in a block. */

#include "native.h"
#include <string.h>

#ifndef TILES
#define TILES 144
#endif
  /* of a block */
#ifndef PAD
#define PAD 32
#endif
#define PLACES 16

typedef struct {
    int images, height, width, down, across; /* tiles: down x across per image */
} Grid;

/* A block of tiles: where they lie, and which row of each kind's matrices they have. */
typedef struct {
    int count, image[TILES], top[TILES], left[TILES];
    int row[4][TILES]; /* -1: not needed */
    int rows[4];
} Block;

static int kind_of(int place) { return (place / 4 == 3) * 2 + (place % 4 == 3); }

static Grid grid_of(int images, int height, int width) {
    return (Grid){images, height, width, (height + 1) / 2, (width + 1) / 2};
}

static void take_block(Block *block, const Grid *grid, int first) {
    int total = grid->images * grid->down * grid->across;
    block->count = total - first < TILES ? total - first : TILES;
    memset(block->rows, 0, sizeof block->rows);
    for (int t = 0; t < block->count; t++) {
        int tile = first + t, per_image = grid->down * grid->across;
        int inside = tile % per_image;
        block->image[t] = tile / per_image;
        block->top[t] = 2 * (inside / grid->across);
        block->left[t] = 2 * (inside % grid->across);
        int two_rows = block->top[t] + 1 < grid->height, two_columns = block->left[t] + 1 < grid->width;
        for (int kind = 0; kind < 4; kind++) {
            int needed = (two_rows || !(kind & 2)) && (two_columns || !(kind & 1));
            block->row[kind][t] = needed ? block->rows[kind]++ : -1;
        }
    }
}

/* ---- transforms of 16 channels ---- */

#define ADD(a, b) _mm512_add_ps(a, b)
#define SUB(a, b) _mm512_sub_ps(a, b)

/* V = B'd B of the inputs d[4][4], in place. */
static inline void transform_input(__m512 d[16]) {
    for (int j = 0; j < 4; j++) {
        __m512 a = SUB(d[j], d[8 + j]), b = ADD(d[4 + j], d[8 + j]);
        __m512 c = SUB(d[8 + j], d[4 + j]), e = SUB(d[4 + j], d[12 + j]);
        d[j] = a, d[4 + j] = b, d[8 + j] = c, d[12 + j] = e;
    }
    for (int i = 0; i < 16; i += 4) {
        __m512 a = SUB(d[i], d[i + 2]), b = ADD(d[i + 1], d[i + 2]);
        __m512 c = SUB(d[i + 2], d[i + 1]), e = SUB(d[i + 1], d[i + 3]);
        d[i] = a, d[i + 1] = b, d[i + 2] = c, d[i + 3] = e;
    }
}

/* Y = A'M A. */
static inline void transform_output(const __m512 m[16], __m512 y[4]) {
    __m512 upper[4], lower[4];
    for (int j = 0; j < 4; j++) {
        upper[j] = ADD(ADD(m[j], m[4 + j]), m[8 + j]);
        lower[j] = SUB(SUB(m[4 + j], m[8 + j]), m[12 + j]);
    }
    y[0] = ADD(ADD(upper[0], upper[1]), upper[2]), y[1] = SUB(SUB(upper[1], upper[2]), upper[3]);
    y[2] = ADD(ADD(lower[0], lower[1]), lower[2]), y[3] = SUB(SUB(lower[1], lower[2]), lower[3]);
}

/* A dY A' of the gradients y[2][2]. */
static inline void transform_gradient(const __m512 y[4], __m512 m[16]) {
    __m512 zero = _mm512_setzero_ps(), left[4], right[4];
    left[0] = y[0], left[1] = ADD(y[0], y[2]), left[2] = SUB(y[0], y[2]), left[3] = SUB(zero, y[2]);
    right[0] = y[1], right[1] = ADD(y[1], y[3]), right[2] = SUB(y[1], y[3]), right[3] = SUB(zero, y[3]);
    for (int i = 0; i < 4; i++) {
        m[4 * i] = left[i], m[4 * i + 1] = ADD(left[i], right[i]);
        m[4 * i + 2] = SUB(left[i], right[i]), m[4 * i + 3] = SUB(zero, right[i]);
    }
}

static const bf16 ZEROS[1024];

static void gather_input(const Block *block, const Grid *grid, int t, const bf16 *x, int channels,
                         const bf16 *from[16]) {
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int y = block->top[t] + i - 1, z = block->left[t] + j - 1;
            int inside = y >= 0 && y < grid->height && z >= 0 && z < grid->width;
            size_t pixel = ((size_t)block->image[t] * grid->height + y) * grid->width + z;
            from[4 * i + j] = inside ? x + pixel * channels : NULL;
        }
}

static inline __m512 load_or_zero(const bf16 *from, int c) {
    return from ? load_bf16(from + c) : _mm512_setzero_ps();
}

/* V[place][row][C] of a block. */
static void inputs_of(const Block *block, const Grid *grid, const bf16 *x, int channels, bf16 *v) {
    for (int t = 0; t < block->count; t++) {
        const bf16 *from[16];
        gather_input(block, grid, t, x, channels, from);
        for (int c = 0; c < channels; c += LANES) {
            __m512 d[16];
            for (int p = 0; p < PLACES; p++) d[p] = load_or_zero(from[p], c);
            transform_input(d);
            for (int p = 0; p < PLACES; p++) {
                int row = block->row[kind_of(p)][t];
                if (row >= 0) store_bf16(v + ((size_t)p * TILES + row) * channels + p * PAD + c, d[p]);
            }
        }
    }
}

/* ---- products ---- */

/* out[R][S*16] = a[R][2*depth] b, b as [depth][S*16][2]. */
#define EACH _Pragma("GCC unroll 24") for
#define PRODUCT(R, S)                                                                              \
    static void product_##R##x##S(const bf16 *a, size_t a_step, const bf16 *b, int depth,          \
                                  float *out, size_t out_step) {                                   \
        __m512 sum[R][S];                                                                          \
        EACH(int r = 0; r < R; r++) EACH(int s = 0; s < S; s++) sum[r][s] = _mm512_setzero_ps();   \
        for (int d = 0; d < depth; d++, a += 2, b += 32 * S) {                                     \
            __m512bh right[S];                                                                     \
            EACH(int s = 0; s < S; s++) right[s] = (__m512bh)_mm512_loadu_si512(b + 32 * s);       \
            EACH(int r = 0; r < R; r++) {                                                          \
                __m512bh left = (__m512bh)_mm512_set1_epi32(*(const int *)(a + r * a_step));       \
                EACH(int s = 0; s < S; s++) sum[r][s] = _mm512_dpbf16_ps(sum[r][s], left, right[s]);\
            }                                                                                      \
        }                                                                                          \
        EACH(int r = 0; r < R; r++)                                                                \
            EACH(int s = 0; s < S; s++) _mm512_storeu_ps(out + r * out_step + 16 * s, sum[r][s]);  \
    }
PRODUCT(6, 4)
PRODUCT(8, 3)
PRODUCT(12, 2)
PRODUCT(24, 1)

typedef void Product(const bf16 *, size_t, const bf16 *, int, float *, size_t);

/* y = x convolved; u: the kernel's transform, [place][C/2][K][2] */
void winograd_convolve(const bf16 *x, const bf16 *u, bf16 *y, int images, int height, int width,
                       int inputs, int outputs, void *space) {
    Grid grid = grid_of(images, height, width);
    Block block;
    bf16 *v = space;                                                /* [16][TILES][C] */
    float *m = (float *)(v + (size_t)PLACES * (TILES + 24) * inputs); /* [16][TILES][panel] */
    int total = images * grid.down * grid.across;
    for (int first = 0; first < total; first += TILES) {
        take_block(&block, &grid, first);
        inputs_of(&block, &grid, x, inputs, v);
        int panel;
        for (int k = 0; k < outputs; k += panel) {
            int left = outputs - k, rows;
            Product *product;
            if (left == 48 || left == 96) panel = 48, rows = 8, product = product_8x3;
            else if (left >= 64) panel = 64, rows = 6, product = product_6x4;
            else if (left >= 48) panel = 48, rows = 8, product = product_8x3;
            else if (left >= 32) panel = 32, rows = 12, product = product_12x2;
            else panel = 16, rows = 24, product = product_24x1;
            for (int p = 0; p < PLACES; p++)
                for (int t = 0; t < block.rows[kind_of(p)]; t += rows)
                    product(v + ((size_t)p * TILES + t) * inputs + p * PAD, inputs,
                            u + ((size_t)PLACES * k + p * panel) * inputs,
                            inputs / 2, m + ((size_t)p * TILES + t) * panel + p * PAD, panel);
            for (int t = 0; t < block.count; t++) {
                const float *from[16];
                for (int p = 0; p < PLACES; p++) {
                    int row = block.row[kind_of(p)][t];
                    from[p] = row < 0 ? NULL : m + ((size_t)p * TILES + row) * panel + p * PAD;
                }
                size_t pixel = ((size_t)block.image[t] * height + block.top[t]) * width + block.left[t];
                bf16 *to = y + pixel * outputs + k;
                int two_rows = block.top[t] + 1 < height, two_columns = block.left[t] + 1 < width;
                for (int c = 0; c < panel; c += LANES) {
                    __m512 place[16], out[4];
                    for (int p = 0; p < PLACES; p++)
                        place[p] = from[p] ? _mm512_loadu_ps(from[p] + c) : _mm512_setzero_ps();
                    transform_output(place, out);
                    store_bf16(to + c, out[0]);
                    if (two_columns) store_bf16(to + outputs + c, out[1]);
                    if (two_rows) store_bf16(to + (size_t)width * outputs + c, out[2]);
                    if (two_rows && two_columns)
                        store_bf16(to + (size_t)(width + 1) * outputs + c, out[3]);
                }
            }
        }
    }
}
