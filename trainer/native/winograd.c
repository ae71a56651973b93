/* 3x3 convolutions (stride 1, padding 1) in bf16 with fewer multiplications.

   Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional
   Neural Networks", CVPR 2016): a tile of 4x4 inputs d and a kernel g of 3x3 give 2x2 outputs

       Y = A' [(G g G') * (B' d B)] A,    B' = 1  0 -1  0    G = 1    0    0     A' = 1  1  1  0
                                               0  1  1  0        1/2  1/2  1/2        0  1 -1 -1
                                               0 -1  1  0        1/2 -1/2  1/2
                                               0  1  0 -1        0    0    1

   with 16 multiplications instead of 36. Over channels, each of the 16 places of a tile is a matrix
   product of its own: M[place] = V[place] U[place] of [tiles, inputs] and [inputs, outputs].

   The gradient of x is a convolution too, with every kernel turned around. That of the kernel is
   dg = G' [(A dY A') * (B' d B)] G, again 16 products, over tiles. Products take bf16 and add up in
   fp32, transforms are computed in fp32.

   Activations are [images][height][width][channels], weights [outputs][3][3][inputs]; numbers of
   channels are multiples of 16. Tiles are worked on in blocks that stay in the second-level cache.
   Where the height is odd, the last row of tiles has one row of outputs, which needs no places of
   row 3; the same holds for columns. So there are four kinds of places, and a block has a number of
   tiles of its own for each kind: its rows. */

#include <string.h>

#include "kernels.h"

#define PLACES 16
#define MOST 100      /* tiles of a block */
#define CACHE 900000  /* bytes that a block should fill at most */
#define APART 32      /* places start at different lines of the cache: not all at multiples of 4096 */
#define SPARE 26      /* rows that a product may compute beyond the last one, and two for nothing */

typedef struct {
    int images, height, width, down, across; /* down x across tiles per image */
    int group, block;                        /* images, and tiles, that are worked on at once */
} Grid;

typedef struct {
    int count, rows[4];
    struct {
        int slot, top, left; /* slot: which image of the group */
        int row[4];          /* of each kind; one beyond the last where there is none */
    } tile[MOST];
} Block;

static int kind_of(int place) { return (place / 4 == 3) * 2 + (place % 4 == 3); }

static Grid grid_of(int images, int height, int width, size_t bytes_per_tile) {
    Grid grid = {images, height, width, (height + 1) / 2, (width + 1) / 2, 2, 0};
    size_t fitting = CACHE / bytes_per_tile;
    int most = fitting < 24 ? 24 : fitting < MOST ? (int)fitting / 2 * 2 : MOST;
    int pair = 2 * grid.down * grid.across;
    if (pair <= most) grid.group = most / pair * 2;
    grid.block = pair <= most ? grid.group / 2 * pair : most;
    return grid;
}

/* How many tiles the group has that begins at an image; an odd last image gets a partner. */
static int tiles_of(const Grid *grid, int image) {
    int left = grid->images - image, images = left < grid->group ? left + left % 2 : grid->group;
    return images * grid->down * grid->across;
}

/* Take tiles of a group from `first` on. */
static void take(Block *block, const Grid *grid, int tiles, int first) {
    int each = grid->down * grid->across, left = tiles - first;
    block->count = left < grid->block ? left : grid->block;
    memset(block->rows, 0, sizeof block->rows);
    for (int t = 0; t < block->count; t++) {
        int inside = (first + t) / 2 % each, top = 2 * (inside / grid->across);
        int start = 2 * (inside % grid->across);
        int two_rows = top + 1 < grid->height, two_columns = start + 1 < grid->width;
        block->tile[t].slot = (first + t) / 2 / each * 2 + t % 2;
        block->tile[t].top = top, block->tile[t].left = start;
        for (int kind = 0; kind < 4; kind++) {
            int needed = (two_rows || !(kind & 2)) && (two_columns || !(kind & 1));
            block->tile[t].row[kind] = needed ? block->rows[kind]++ : grid->block + SPARE - 2;
        }
    }
}

/* Images of a group with zeros around them and up to even numbers of rows and columns, so that every
   tile is whole; behind the last image there are zeros only. */
typedef struct {
    bf16 *pixels;
    int border, channels;
    size_t line, image; /* from row to row, and from image to image */
} Padded;

static Padded padded_of(const Grid *grid, int border, int channels) {
    Padded padded = {NULL, border, channels, 0, 0};
    padded.line = (size_t)(2 * grid->across + 2 * border) * channels;
    padded.image = (2 * grid->down + 2 * border) * padded.line;
    return padded;
}

static void pad(const Padded *padded, const Grid *grid, const bf16 *x, int first) {
    size_t line = (size_t)grid->width * padded->channels;
    for (int slot = 0; slot < grid->group; slot++) {
        bf16 *to = padded->pixels + slot * padded->image;
        if (first + slot >= grid->images) {
            memset(to, 0, 2 * padded->image);
            continue;
        }
        const bf16 *from = x + (size_t)(first + slot) * grid->height * line;
        to += padded->border * (padded->line + padded->channels);
        for (int row = 0; row < grid->height; row++)
            memcpy(to + row * padded->line, from + row * line, 2 * line);
    }
}

static inline const bf16 *tile_in(const Padded *padded, const Block *block, int t) {
    return padded->pixels + block->tile[t].slot * padded->image +
           block->tile[t].top * padded->line + (size_t)block->tile[t].left * padded->channels;
}

/* Where the four outputs of a tile go; `nowhere` those that it does not have. */
static void outputs_of(const Block *block, const Grid *grid, int t, int first, bf16 *y,
                       int channels, bf16 *nowhere, bf16 *to[4]) {
    for (int i = 0; i < 4; i++) {
        int image = first + block->tile[t].slot;
        int row = block->tile[t].top + i / 2, column = block->tile[t].left + i % 2;
        int there = image < grid->images && row < grid->height && column < grid->width;
        size_t pixel = ((size_t)image * grid->height + row) * grid->width + column;
        to[i] = there ? y + pixel * channels : nowhere;
    }
}

/* ---- transforms of 16 channels ---- */

static inline __m512 add(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
static inline __m512 sub(__m512 a, __m512 b) { return _mm512_sub_ps(a, b); }

#define EACH _Pragma("GCC unroll 24") for /* unrolled: arrays of vectors stay in registers */

/* B' d, of four vectors that lie `step` apart. */
static inline void transform_input(__m512 *d, int step) {
    __m512 a = d[0], b = d[step], c = d[2 * step], e = d[3 * step];
    d[0] = sub(a, c), d[step] = add(b, c), d[2 * step] = sub(c, b), d[3 * step] = sub(b, e);
}

/* A' m */
static inline void transform_output(__m512 a, __m512 b, __m512 c, __m512 d, __m512 *y, int step) {
    y[0] = add(add(a, b), c), y[step] = sub(sub(b, c), d);
}

/* A y */
static inline void transform_gradient(__m512 y, __m512 z, __m512 *m, int step) {
    m[0] = y, m[step] = add(y, z), m[2 * step] = sub(y, z);
    m[3 * step] = sub(_mm512_setzero_ps(), z);
}

/* G g */
static inline void transform_kernel(__m512 g, __m512 h, __m512 i, __m512 *u, int step) {
    __m512 half = _mm512_set1_ps(0.5f), outer = add(g, i);
    u[0] = g, u[3 * step] = i;
    u[step] = _mm512_mul_ps(half, add(outer, h)), u[2 * step] = _mm512_mul_ps(half, sub(outer, h));
}

/* G' u */
static inline void transform_back(__m512 a, __m512 b, __m512 c, __m512 d, __m512 *g, int step) {
    __m512 half = _mm512_set1_ps(0.5f), sum = _mm512_mul_ps(half, add(b, c));
    g[0] = add(a, sum), g[2 * step] = add(sum, d), g[step] = _mm512_mul_ps(half, sub(b, c));
}

static inline void tile_of_inputs(const bf16 *at, const Padded *x, __m512 d[16]) {
    EACH(int i = 0; i < 4; i++)
    EACH(int j = 0; j < 4; j++) d[4 * i + j] = load_bf16(at + i * x->line + j * x->channels);
    EACH(int i = 0; i < 4; i++) transform_input(d + i, 4);
    EACH(int i = 0; i < 4; i++) transform_input(d + 4 * i, 1);
}

static inline void tile_of_outputs(const __m512 m[16], __m512 y[4]) {
    __m512 half[8]; /* A'M, [2][4] */
    EACH(int j = 0; j < 4; j++)
    transform_output(m[j], m[4 + j], m[8 + j], m[12 + j], half + j, 4);
    transform_output(half[0], half[1], half[2], half[3], y, 1);
    transform_output(half[4], half[5], half[6], half[7], y + 2, 1);
}

static inline void tile_of_gradients(const bf16 *at, const Padded *dy, __m512 m[16]) {
    __m512 half[8]; /* A dY, [4][2] */
    EACH(int j = 0; j < 2; j++) {
        const bf16 *own = at + j * dy->channels;
        transform_gradient(load_bf16(own), load_bf16(own + dy->line), half + j, 2);
    }
    EACH(int i = 0; i < 4; i++) transform_gradient(half[2 * i], half[2 * i + 1], m + 4 * i, 1);
}

static inline void kernel_of(const float *weight, int channels, __m512 u[16]) {
    __m512 half[12]; /* G g, [4][3] */
    for (int j = 0; j < 3; j++) {
        const float *at = weight + (size_t)j * channels;
        size_t line = 3 * (size_t)channels;
        transform_kernel(_mm512_loadu_ps(at), _mm512_loadu_ps(at + line),
                         _mm512_loadu_ps(at + 2 * line), half + j, 3);
    }
    for (int i = 0; i < 4; i++)
        transform_kernel(half[3 * i], half[3 * i + 1], half[3 * i + 2], u + 4 * i, 1);
}

/* ---- products ---- */

/* out[R][16 S] (+)= sum over depth of pairs a[depth][row][2] and b[depth][16 S][2]; the rows of a are
   `a_row` apart, its pairs `a_pair`. */
#define PRODUCT(R, S, ADDING)                                                                      \
    static void product_##R##x##S##_##ADDING(const bf16 *a, size_t a_row, size_t a_pair,              \
                                          const bf16 *b, int depth, float *out, size_t out_row) {  \
        __m512 sum[R][S];                                                                          \
        EACH(int r = 0; r < R; r++)                                                                \
        EACH(int s = 0; s < S; s++)                                                                \
        sum[r][s] = ADDING ? _mm512_loadu_ps(out + r * out_row + 16 * s) : _mm512_setzero_ps();    \
        for (int d = 0; d < depth; d++, a += a_pair, b += 32 * S) {                                \
            __m512bh right[S];                                                                     \
            EACH(int s = 0; s < S; s++) right[s] = (__m512bh)_mm512_loadu_si512(b + 32 * s);       \
            EACH(int r = 0; r < R; r++) {                                                          \
                __m512bh left = (__m512bh)_mm512_set1_epi32(*(const int *)(a + r * a_row));        \
                EACH(int s = 0; s < S; s++)                                                        \
                sum[r][s] = _mm512_dpbf16_ps(sum[r][s], left, right[s]);                           \
            }                                                                                      \
        }                                                                                          \
        EACH(int r = 0; r < R; r++)                                                                \
        EACH(int s = 0; s < S; s++) _mm512_storeu_ps(out + r * out_row + 16 * s, sum[r][s]);       \
    }
PRODUCT(6, 4, 0)
PRODUCT(8, 3, 0)
PRODUCT(12, 2, 0)
PRODUCT(24, 1, 0)
PRODUCT(4, 4, 1)
PRODUCT(8, 3, 1)
PRODUCT(8, 2, 1)
PRODUCT(16, 1, 1)

typedef void Product(const bf16 *, size_t, size_t, const bf16 *, int, float *, size_t);

/* Columns of a product are taken in panels as wide as the registers hold. */
typedef struct {
    int width, rows, adding_rows;
    Product *product, *adding;
} Panel;

static const Panel PANELS[] = {
    {16, 24, 16, product_24x1_0, product_16x1_1},
    {32, 12, 8, product_12x2_0, product_8x2_1},
    {48, 8, 8, product_8x3_0, product_8x3_1},
    {64, 6, 4, product_6x4_0, product_4x4_1},
};

static const Panel *panel_of(int columns) {
    if ((columns % 64 && columns % 48 == 0) || columns < 64) return &PANELS[columns < 48 ? columns / 16 - 1 : 2];
    return &PANELS[3];
}

/* U of a convolution from `inputs` to `outputs` channels, [panel][place][inputs / 2][width][2].
   Turned: the weights are those of the convolution whose gradient this is, [inputs][3][3][outputs]. */
static void transform_weights(const float *weight, int inputs, int outputs, int turned, bf16 *u) {
    const Panel *panel;
    for (int first = 0; first < outputs; first += panel->width) {
        panel = panel_of(outputs - first);
        int width = panel->width;
        bf16 *own = u + (size_t)PLACES * first * inputs;
        size_t place_step = (size_t)inputs * width;
        if (turned)
            for (int i = 0; i < inputs; i += 2)
                for (int o = 0; o < width; o += LANES) {
                    __m512 even[16], odd[16];
                    const float *at = weight + (size_t)i * 9 * outputs + first + o;
                    kernel_of(at, outputs, even), kernel_of(at + 9 * (size_t)outputs, outputs, odd);
                    for (int place = 0; place < PLACES; place++) {
                        /* Turning g around swaps rows (columns) 0 and 3, and the sign of none. */
                        static const int SWAPPED[4] = {3, 1, 2, 0};
                        int from = 4 * SWAPPED[place / 4] + SWAPPED[place % 4];
                        __m512i low = _mm512_cvtepu16_epi32(to_bf16(even[from]));
                        __m512i high = _mm512_cvtepu16_epi32(to_bf16(odd[from]));
                        _mm512_storeu_si512(own + place * place_step + ((size_t)i * width + 2 * o),
                                            _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
                    }
                }
        else
            for (int o = 0; o < width; o++)
                for (int i = 0; i < inputs; i += LANES) {
                    __m512 u16[16];
                    kernel_of(weight + (size_t)(first + o) * 9 * inputs + i, inputs, u16);
                    for (int place = 0; place < PLACES; place++) {
                        uint32_t pairs[8];
                        _mm256_storeu_si256((__m256i *)pairs, to_bf16(u16[place]));
                        uint32_t *to = (uint32_t *)(own + place * place_step) + (size_t)i / 2 * width + o;
                        for (int pair = 0; pair < 8; pair++) to[pair * width] = pairs[pair];
                    }
                }
    }
}

/* y [images][height][width][outputs] of x [...][inputs]; turned: see above. */
int winograd_convolve(const bf16 *x, const float *weight, bf16 *y, int images, int height,
                      int width, int inputs, int outputs, int turned) {
    Grid grid = grid_of(images, height, width, PLACES * (2 * (size_t)inputs + 4 * 64));
    Padded padded = padded_of(&grid, 1, inputs);
    size_t v_place = (size_t)(grid.block + SPARE) * inputs + APART;
    size_t m_place = (size_t)(grid.block + SPARE) * 64 + APART;
    size_t u_size = (size_t)PLACES * inputs * outputs, v_size = PLACES * v_place;
    size_t x_size = grid.group * padded.image;
    bf16 *u = workspace(2 * (u_size + v_size + x_size + outputs) + 4 * PLACES * m_place);
    if (!u) return 1;
    float *m = (float *)(u + u_size);          /* [16][rows][width of a panel] */
    bf16 *v = (bf16 *)(m + PLACES * m_place);  /* [16][rows][inputs] */
    bf16 *nowhere = v + v_size + x_size;
    padded.pixels = v + v_size;
    memset(padded.pixels, 0, 2 * x_size);
    transform_weights(weight, inputs, outputs, turned, u);
    for (int image = 0; image < images; image += grid.group) {
        pad(&padded, &grid, x, image);
        int tiles = tiles_of(&grid, image);
        for (int first = 0; first < tiles; first += grid.block) {
            Block block;
            take(&block, &grid, tiles, first);
            for (int t = 0; t < block.count; t++) {
                const bf16 *from = tile_in(&padded, &block, t);
                /* Few addresses, which registers can hold: of each line of places, and of its last. */
                bf16 *line[4], *last[4];
                for (int i = 0; i < 4; i++) {
                    const int *row = block.tile[t].row;
                    line[i] = v + 4 * i * v_place + (size_t)row[kind_of(4 * i)] * inputs;
                    last[i] = v + (4 * i + 3) * v_place + (size_t)row[kind_of(4 * i + 3)] * inputs;
                }
                for (int channel = 0; channel < inputs; channel += LANES) {
                    __m512 d[16];
                    tile_of_inputs(from + channel, &padded, d);
                    EACH(int i = 0; i < 4; i++) {
                        EACH(int j = 0; j < 3; j++)
                        store_bf16(line[i] + j * v_place + channel, d[4 * i + j]);
                        store_bf16(last[i] + channel, d[4 * i + 3]);
                    }
                }
            }
            const Panel *panel;
            for (int start = 0; start < outputs; start += panel->width) {
                panel = panel_of(outputs - start);
                size_t wide = panel->width;
                for (int place = 0; place < PLACES; place++)
                    for (int row = 0; row < block.rows[kind_of(place)]; row += panel->rows)
                        panel->product(v + place * v_place + (size_t)row * inputs, inputs, 2,
                                       u + (PLACES * start + place * wide) * inputs, inputs / 2,
                                       m + place * m_place + row * wide, wide);
                for (int t = 0; t < block.count; t++) {
                    const float *from[16];
                    bf16 *to[4];
                    for (int place = 0; place < PLACES; place++)
                        from[place] = m + place * m_place + block.tile[t].row[kind_of(place)] * wide;
                    outputs_of(&block, &grid, t, image, y + start, outputs, nowhere, to);
                    for (int channel = 0; channel < panel->width; channel += LANES) {
                        __m512 p[16], out[4];
                        EACH(int place = 0; place < PLACES; place++)
                        p[place] = _mm512_loadu_ps(from[place] + channel);
                        tile_of_outputs(p, out);
                        EACH(int i = 0; i < 4; i++) store_bf16(to[i] + channel, out[i]);
                    }
                }
            }
        }
    }
    return 0;
}

/* Put 16 values of each of two rows beside each other, [16][2]. */
static inline void store_pairs(bf16 *to, __m256i even, __m512 odd) {
    __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(to_bf16(odd)), 16);
    _mm512_storeu_si512(to, _mm512_or_si512(_mm512_cvtepu16_epi32(even), high));
}

/* out [outputs][3][3][inputs], the gradient of the weights: of x [images][height][width][inputs] and
   of the gradient of y [...][outputs]. */
int winograd_kernel_gradient(const bf16 *x, const bf16 *gradient, float *out, int images,
                             int height, int width, int inputs, int outputs) {
    Grid grid = grid_of(images, height, width, PLACES * 2 * (size_t)(inputs + outputs));
    Padded padded = padded_of(&grid, 1, inputs), padded_dy = padded_of(&grid, 0, outputs);
    size_t rows = grid.block + SPARE, u_place = (size_t)outputs * inputs;
    size_t d_place = rows * outputs + APART, v_channel = rows + APART;
    size_t d_size = PLACES * d_place, v_size = PLACES * v_channel * inputs;
    size_t x_size = grid.group * padded.image, dy_size = grid.group * padded_dy.image;
    float *u = workspace(4 * PLACES * u_place + 2 * (d_size + v_size + x_size + dy_size));
    if (!u) return 1;
    bf16 *d = (bf16 *)(u + PLACES * u_place); /* [16][rows / 2][outputs][2]; u: [16][outputs][inputs] */
    bf16 *v = d + d_size;                     /* [panel][16][rows / 2][width][2] */
    padded.pixels = v + v_size, padded_dy.pixels = padded.pixels + x_size;
    memset(u, 0, 4 * PLACES * u_place);
    memset(padded.pixels, 0, 2 * (x_size + dy_size));
    const Panel *panel;
    for (int image = 0; image < images; image += grid.group) {
        pad(&padded, &grid, x, image), pad(&padded_dy, &grid, gradient, image);
        int tiles = tiles_of(&grid, image);
        for (int first = 0; first < tiles; first += grid.block) {
            Block block;
            take(&block, &grid, tiles, first);
            for (int t = 0; t < block.count; t += 2) {
                const bf16 *even_x = tile_in(&padded, &block, t);
                const bf16 *odd_x = tile_in(&padded, &block, t + 1);
                const bf16 *even_dy = tile_in(&padded_dy, &block, t);
                const bf16 *odd_dy = tile_in(&padded_dy, &block, t + 1);
                bf16 *to[16];
                __m256i even[16];
                __m512 p[16];
                size_t row[16]; /* of pairs */
                for (int place = 0; place < PLACES; place++)
                    row[place] = block.tile[t].row[kind_of(place)] / 2;
                for (int start = 0; start < inputs; start += panel->width) {
                    panel = panel_of(inputs - start);
                    size_t wide = panel->width;
                    for (int place = 0; place < PLACES; place++)
                        to[place] =
                            v + (PLACES * start + place * wide) * v_channel + row[place] * wide * 2;
                    for (int channel = 0; channel < panel->width; channel += LANES) {
                        tile_of_inputs(even_x + start + channel, &padded, p);
                        EACH(int place = 0; place < PLACES; place++) even[place] = to_bf16(p[place]);
                        tile_of_inputs(odd_x + start + channel, &padded, p);
                        EACH(int place = 0; place < PLACES; place++)
                        store_pairs(to[place] + 2 * channel, even[place], p[place]);
                    }
                }
                for (int place = 0; place < PLACES; place++)
                    to[place] = d + place * d_place + row[place] * outputs * 2;
                for (int channel = 0; channel < outputs; channel += LANES) {
                    tile_of_gradients(even_dy + channel, &padded_dy, p);
                    EACH(int place = 0; place < PLACES; place++) even[place] = to_bf16(p[place]);
                    tile_of_gradients(odd_dy + channel, &padded_dy, p);
                    EACH(int place = 0; place < PLACES; place++)
                    store_pairs(to[place] + 2 * channel, even[place], p[place]);
                }
            }
            for (int place = 0; place < PLACES; place++)
                for (int start = 0; start < inputs; start += panel->width) {
                    panel = panel_of(inputs - start);
                    const bf16 *right =
                        v + (PLACES * start + (size_t)place * panel->width) * v_channel;
                    for (int row = 0; row < outputs; row += panel->adding_rows)
                        panel->adding(d + place * d_place + 2 * row, 2, 2 * (size_t)outputs, right,
                                      block.rows[kind_of(place)] / 2,
                                      u + place * u_place + (size_t)row * inputs + start, inputs);
                }
        }
    }
    for (int o = 0; o < outputs; o++)
        for (int i = 0; i < inputs; i += LANES) {
            __m512 half[12]; /* G'U, [3][4] */
            const float *from = u + (size_t)o * inputs + i;
            float *to = out + (size_t)o * 9 * inputs + i;
            for (int j = 0; j < 4; j++) {
                __m512 p[4];
                for (int k = 0; k < 4; k++) p[k] = _mm512_loadu_ps(from + (4 * k + j) * u_place);
                transform_back(p[0], p[1], p[2], p[3], half + j, 4);
            }
            for (int k = 0; k < 3; k++) {
                __m512 g[3];
                transform_back(half[4 * k], half[4 * k + 1], half[4 * k + 2], half[4 * k + 3], g, 1);
                for (int j = 0; j < 3; j++)
                    _mm512_storeu_ps(to + (3 * k + j) * (size_t)inputs, g[j]);
            }
        }
    return 0;
}
