/* 3x3 convolutions (stride 1, padding 1) in bf16 with fewer multiplications.

   Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional
   Neural Networks", CVPR 2016): a tile of 6x6 inputs d and a kernel g of 3x3 give 4x4 outputs

       Y = A' [(G g G') * (B' d B)] A

   with 36 multiplications instead of 144. Rows and columns are polynomials, taken at the points 0, a,
   -a, b, -b and infinity; a = sqrt(1/2) and b = sqrt(2) round off half as much as the usual 1 and 2:

       B' = 1    0  -5/2    0   1   0     G = 1    0    0      A' = 1   1    1    1    1   0
            0  -2a    -2    a   1   0         c    ca   c/2         0   a   -a    b   -b   0
            0   2a    -2   -a   1   0         c   -ca   c/2         0  1/2  1/2   2    2   0
            0  -b/2 -1/2    b   1   0         e    eb   2e          0  a^3 -a^3  b^3 -b^3  1
            0   b/2 -1/2   -b   1   0         e   -eb   2e
            0    1     0 -5/2   0   1         0    0    1           c = -2/3, e = 1/6

   Over channels, each of the 36 places of a tile is a matrix product of its own:
   M[place] = V[place] U[place] of [tiles, inputs] and [inputs, outputs].

   The gradient of x is a convolution too, with every kernel turned around. That of the kernel is
   dg = G' [(A dY A') * (B' d B)] G, again 36 products, over tiles. Products take bf16 and add up in
   fp32, transforms are computed in fp32. The rounding of V and U gives results a relative error of
   about 1 % (root mean square), where bf16 alone gives 0.2 %.

   Activations are [images][height][width][channels], weights [outputs][3][3][inputs]; numbers of
   channels are multiples of 16. Tiles are worked on in blocks that stay in the caches. Where the last
   row of tiles has less than four rows of outputs it needs no places of row 5, and the same holds for
   columns. So there are four kinds of places, and a block has its tiles in an order in which those
   that need a kind lie side by side. Products over tiles take them in pairs: a tile of one image, and
   that of the next one at the same place, which needs the same places. */

#include <string.h>

#include "kernels.h"

#define SIDE 6 /* inputs of a tile */
#define TILE 4 /* outputs */
#define PLACES (SIDE * SIDE)
#define FORWARD 98   /* tiles of a block at most */
#define BACKWARD 128 /* of one for the gradient of weights, whose sums leave the registers once a block */
#define MOST (FORWARD > BACKWARD ? FORWARD : BACKWARD)
#define APART 32     /* tiles or places do not all start at multiples of 4096, at one line of the cache */
#define WIDEST 64    /* columns of a panel */
#define SPARE 23     /* tiles that a product may compute beyond the last one */

typedef struct {
    int images, height, width, down, across; /* down x across tiles per image */
    int group, block;                        /* images, and tiles, that are worked on at once */
} Grid;

typedef struct {
    int count, begin[4], end[4]; /* of each kind of places: the tiles that need them */
    struct {
        int slot, top, left; /* slot: which image of the group */
    } tile[MOST];
} Block;

/* 1: the last column of places, 2: the last row, 3: both */
static int kind_of(int place) {
    return (place / SIDE == SIDE - 1) * 2 + (place % SIDE == SIDE - 1);
}

static Grid grid_of(int images, int height, int width, int most) {
    int down = (height + TILE - 1) / TILE, across = (width + TILE - 1) / TILE;
    Grid grid = {images, height, width, down, across, 2, 0};
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
    int each = grid->down * grid->across, left = tiles - first, count = 0, ends[4];
    block->count = left < grid->block ? left : grid->block;
    for (int order = 0; order < 4; order++) { /* right edge, inner, bottom edge, corner */
        for (int t = first; t < first + block->count; t++) {
            int inside = t / 2 % each, top = TILE * (inside / grid->across);
            int start = TILE * (inside % grid->across);
            int at_bottom = top + TILE > grid->height, at_right = start + TILE > grid->width;
            if (order != (at_bottom ? 2 + at_right : !at_right)) continue;
            block->tile[count].slot = t / 2 / each * 2 + t % 2;
            block->tile[count].top = top, block->tile[count++].left = start;
        }
        ends[order] = count;
    }
    for (int kind = 0; kind < 4; kind++) {
        block->begin[kind] = kind & 1 ? ends[0] : 0;
        block->end[kind] = kind & 2 ? ends[1] : kind & 1 ? ends[2] : ends[3];
    }
}

/* Images of a group with zeros around them, so that every tile is whole; behind the last image there
   are zeros only. */
typedef struct {
    bf16 *pixels;
    int border, channels;
    size_t line, image; /* from row to row, and from image to image */
} Padded;

static Padded padded_of(const Grid *grid, int border, int channels) {
    Padded padded = {NULL, border, channels, 0, 0};
    padded.line = (size_t)(TILE * grid->across + 2 * border) * channels;
    padded.image = (TILE * grid->down + 2 * border) * padded.line;
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

/* ---- transforms of 16 channels ----
   One-dimensional ones take and give vectors that lie `from` and `to` apart. */

static const float A = 0.70710678f, B = 1.41421356f, A3 = 0.35355339f, B3 = 2.82842712f;
static const float C = -2.0f / 3, E = 1.0f / 6;

static inline __m512 add(__m512 x, __m512 y) { return _mm512_add_ps(x, y); }
static inline __m512 sub(__m512 x, __m512 y) { return _mm512_sub_ps(x, y); }
static inline __m512 times(float factor, __m512 x) { return _mm512_mul_ps(_mm512_set1_ps(factor), x); }
static inline __m512 plus(__m512 x, float factor, __m512 y) { /* x + factor y */
    return _mm512_fmadd_ps(_mm512_set1_ps(factor), y, x);
}

/* B' d */
static inline void transform_input(const __m512 *d, int from, __m512 *v, int to) {
    __m512 d0 = d[0], d1 = d[from], d2 = d[2 * from], d3 = d[3 * from], d4 = d[4 * from];
    __m512 even = plus(d4, -2, d2), odd = times(A, plus(d3, -2, d1));
    v[to] = add(even, odd), v[2 * to] = sub(even, odd);
    even = plus(d4, -0.5f, d2), odd = times(B, plus(d3, -0.5f, d1));
    v[3 * to] = add(even, odd), v[4 * to] = sub(even, odd);
    v[5 * to] = add(plus(d1, -2.5f, d3), d[5 * from]);
    v[0] = add(plus(d0, -2.5f, d2), d4);
}

/* A' m */
static inline void transform_output(const __m512 *m, int from, __m512 *y, int to) {
    __m512 s = add(m[from], m[2 * from]), d = sub(m[from], m[2 * from]);
    __m512 t = add(m[3 * from], m[4 * from]), e = sub(m[3 * from], m[4 * from]);
    y[0] = add(m[0], add(s, t)), y[to] = plus(times(A, d), B, e);
    y[2 * to] = plus(times(0.5f, s), 2, t);
    y[3 * to] = plus(plus(m[5 * from], A3, d), B3, e);
}

/* A y */
static inline void transform_gradient(const __m512 *y, int from, __m512 *m, int to) {
    __m512 y0 = y[0], y1 = y[from], y2 = y[2 * from], y3 = y[3 * from];
    __m512 even = plus(y0, 0.5f, y2), odd = plus(times(A, y1), A3, y3);
    m[to] = add(even, odd), m[2 * to] = sub(even, odd);
    even = plus(y0, 2, y2), odd = plus(times(B, y1), B3, y3);
    m[3 * to] = add(even, odd), m[4 * to] = sub(even, odd);
    m[0] = y0, m[5 * to] = y3;
}

/* G g */
static inline void transform_kernel(const __m512 *g, int from, __m512 *u, int to) {
    __m512 g0 = g[0], g1 = g[from], g2 = g[2 * from];
    __m512 even = times(C, plus(g0, 0.5f, g2)), odd = times(C * A, g1);
    u[to] = add(even, odd), u[2 * to] = sub(even, odd);
    even = times(E, plus(g0, 2, g2)), odd = times(E * B, g1);
    u[3 * to] = add(even, odd), u[4 * to] = sub(even, odd);
    u[0] = g0, u[5 * to] = g2;
}

/* G' u */
static inline void transform_back(const __m512 *u, int from, __m512 *g, int to) {
    __m512 s = times(C, add(u[from], u[2 * from])), d = times(C * A, sub(u[from], u[2 * from]));
    __m512 t = times(E, add(u[3 * from], u[4 * from]));
    g[0] = add(u[0], add(s, t));
    g[to] = plus(d, E * B, sub(u[3 * from], u[4 * from]));
    g[2 * to] = plus(plus(u[5 * from], 0.5f, s), 2, t);
}

/* Put 16 values of each of two rows beside each other, [16][2]. */
static inline void store_pairs(bf16 *to, __m256i even, __m512 odd) {
    __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(to_bf16(odd)), 16);
    _mm512_storeu_si512(to, _mm512_or_si512(_mm512_cvtepu16_epi32(even), high));
}

/* B' d of a tile at these channels, [6][6]; its rows are to be transformed. */
static inline void columns_of_inputs(const bf16 *at, const Padded *x, __m512 half[PLACES]) {
    for (int j = 0; j < SIDE; j++) {
        __m512 d[SIDE];
        EACH(int i = 0; i < SIDE; i++) d[i] = load_bf16(at + i * x->line + j * x->channels);
        transform_input(d, 1, half + j, SIDE);
    }
}

/* A dY, [6][4] */
static inline void columns_of_gradients(const bf16 *at, const Padded *dy, __m512 half[SIDE * TILE]) {
    for (int j = 0; j < TILE; j++) {
        __m512 y[TILE];
        EACH(int i = 0; i < TILE; i++) y[i] = load_bf16(at + i * dy->line + j * dy->channels);
        transform_gradient(y, 1, half + j, TILE);
    }
}

/* G g G' of 16 inputs, or turned around. */
static inline void kernel_of(const float *weight, int channels, int turned, __m512 u[PLACES]) {
    __m512 half[18]; /* G g, [6][3] */
    for (int j = 0; j < 3; j++) {
        __m512 g[3];
        for (int i = 0; i < 3; i++) {
            int tap = turned ? 3 * (2 - i) + 2 - j : 3 * i + j;
            g[i] = _mm512_loadu_ps(weight + (size_t)tap * channels);
        }
        transform_kernel(g, 1, half + j, 3);
    }
    for (int i = 0; i < SIDE; i++) transform_kernel(half + 3 * i, 1, u + SIDE * i, 1);
}

/* ---- products ---- */

/* out[R][16 S] (+)= sum over depth of pairs a[depth][row][2] and b[depth][16 S][2]; the rows of a are
   `a_row` apart, its pairs `a_pair`. */
#define PRODUCT(R, S, ADDING)                                                                      \
    static void product_##R##x##S##_##ADDING(const bf16 *a, size_t a_row, size_t a_pair,           \
                                             const bf16 *b, int depth, float *out,                 \
                                             size_t out_row) {                                     \
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
    {WIDEST, 6, 4, product_6x4_0, product_4x4_1},
};

static const Panel *panel_of(int columns) {
    if (columns < 48) return &PANELS[columns / LANES - 1];
    if (columns < WIDEST || (columns % WIDEST && columns % 48 == 0)) return &PANELS[2];
    return &PANELS[3];
}

/* [rows][9][columns] to [columns][9][rows] */
static void transpose(const float *from, int rows, int columns, float *to) {
    for (int r = 0; r < rows; r += LANES)
        for (int tap = 0; tap < 9; tap++)
            for (int c = 0; c < columns; c++)
                for (int i = 0; i < LANES; i++)
                    to[((size_t)c * 9 + tap) * rows + r + i] =
                        from[((size_t)(r + i) * 9 + tap) * columns + c];
}

/* U of weights [inputs][3][3][outputs], in panels: [panel][places][inputs / 2][width][2]. */
static void transform_weights(const float *weight, int inputs, int outputs, int turned, bf16 *u) {
    int width;
    for (int start = 0; start < outputs; start += width) {
        width = panel_of(outputs - start)->width;
        for (int i = 0; i < inputs; i += 2)
            for (int o = 0; o < width; o += LANES) {
                __m512 even[PLACES], odd[PLACES];
                const float *from = weight + (size_t)i * 9 * outputs + start + o;
                bf16 *to = u + (size_t)PLACES * start * inputs + (size_t)i * width + 2 * o;
                kernel_of(from, outputs, turned, even);
                kernel_of(from + 9 * (size_t)outputs, outputs, turned, odd);
                for (int place = 0; place < PLACES; place++)
                    store_pairs(to + place * (size_t)inputs * width, to_bf16(even[place]),
                                odd[place]);
            }
    }
}

/* y [images][height][width][outputs] of x [...][inputs] and weights [outputs][3][3][inputs]. Turned: the
   weights are those of the convolution whose gradient this is, [inputs][3][3][outputs]. */
int winograd_convolve(const bf16 *x, const float *weight, bf16 *y, int images, int height,
                      int width, int inputs, int outputs, int turned) {
    Grid grid = grid_of(images, height, width, FORWARD);
    Padded padded = padded_of(&grid, 1, inputs);
    size_t deep = inputs, v_tile = PLACES * deep + APART, m_tile = PLACES * WIDEST + APART;
    size_t u_size = PLACES * deep * outputs, x_size = grid.group * padded.image;
    size_t v_size = (grid.block + SPARE) * v_tile, m_size = (grid.block + SPARE) * m_tile;
    size_t w_size = turned ? 0 : 9 * deep * outputs;
    bf16 *u = workspace(2 * (u_size + v_size + x_size) + 4 * (m_size + w_size));
    if (!u) return 1;
    float *m = (float *)(u + u_size);  /* [tiles][places][WIDEST] */
    bf16 *v = (bf16 *)(m + m_size);    /* [tiles][places][inputs] */
    padded.pixels = v + v_size;
    memset(padded.pixels, 0, 2 * x_size);
    if (!turned) {
        float *other_way = (float *)(padded.pixels + x_size);
        transpose(weight, outputs, inputs, other_way);
        weight = other_way;
    }
    transform_weights(weight, inputs, outputs, turned, u);
    for (int image = 0; image < images; image += grid.group) {
        pad(&padded, &grid, x, image);
        int tiles = tiles_of(&grid, image);
        for (int first = 0; first < tiles; first += grid.block) {
            Block block;
            take(&block, &grid, tiles, first);
            for (int t = 0; t < block.count; t++) {
                const bf16 *from = tile_in(&padded, &block, t);
                for (int channel = 0; channel < inputs; channel += LANES) {
                    __m512 half[PLACES];
                    columns_of_inputs(from + channel, &padded, half);
                    for (int i = 0; i < SIDE; i++) {
                        __m512 d[SIDE];
                        bf16 *to = v + t * v_tile + SIDE * i * deep + channel;
                        transform_input(half + SIDE * i, 1, d, 1);
                        EACH(int j = 0; j < SIDE; j++) store_bf16(to + j * deep, d[j]);
                    }
                }
            }
            const Panel *panel;
            for (int start = 0; start < outputs; start += panel->width) {
                panel = panel_of(outputs - start);
                size_t wide = panel->width;
                for (int place = 0; place < PLACES; place++) {
                    int kind = kind_of(place);
                    for (int t = block.begin[kind]; t < block.end[kind]; t += panel->rows)
                        panel->product(v + t * v_tile + place * deep, v_tile, 2,
                                       u + (PLACES * start + place * wide) * deep, inputs / 2,
                                       m + t * m_tile + place * WIDEST, m_tile);
                }
                for (int t = 0; t < block.count; t++) {
                    int own = image + block.tile[t].slot;
                    int top = block.tile[t].top, left = block.tile[t].left;
                    int down = height - top, across = width - left; /* outputs, if less than 4 */
                    size_t pixel = ((size_t)own * height + top) * width + left;
                    if (own >= images) continue;
                    for (int channel = 0; channel < panel->width; channel += LANES) {
                        bf16 *to = y + pixel * outputs + start + channel;
                        const float *from = m + t * m_tile + channel;
                        __m512 half[SIDE * TILE]; /* M A, [6][4] */
                        for (int i = 0; i < SIDE; i++) {
                            __m512 p[SIDE];
                            EACH(int j = 0; j < SIDE; j++)
                            p[j] = _mm512_loadu_ps(from + (SIDE * i + j) * WIDEST);
                            transform_output(p, 1, half + TILE * i, 1);
                        }
                        for (int j = 0; j < TILE && j < across; j++, to += outputs) {
                            __m512 out[TILE];
                            transform_output(half + j, TILE, out, 1);
                            EACH(int i = 0; i < TILE; i++)
                            if (i < down) store_bf16(to + i * (size_t)width * outputs, out[i]);
                        }
                    }
                }
            }
        }
    }
    return 0;
}

/* out [outputs][3][3][inputs], the gradient of the weights: of x [images][height][width][inputs] and
   of the gradient of y [...][outputs]. */
int winograd_kernel_gradient(const bf16 *x, const bf16 *gradient, float *out, int images,
                             int height, int width, int inputs, int outputs) {
    Grid grid = grid_of(images, height, width, BACKWARD);
    Padded padded = padded_of(&grid, 1, inputs), padded_dy = padded_of(&grid, 0, outputs);
    size_t u_place = (size_t)outputs * inputs, d_place = (size_t)grid.block * outputs + APART;
    size_t v_channel = grid.block + 2; /* places of v lie apart too */
    size_t d_size = PLACES * d_place, v_size = PLACES * v_channel * inputs;
    size_t x_size = grid.group * padded.image, dy_size = grid.group * padded_dy.image;
    float *u = workspace(4 * PLACES * u_place + 2 * (d_size + v_size + x_size + dy_size));
    if (!u) return 1;
    /* u [places][outputs][inputs], d [places][tiles / 2][outputs][2], and
       v [panel][places][tiles / 2][width][2] */
    bf16 *d = (bf16 *)(u + PLACES * u_place), *v = d + d_size;
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
                __m512 half[2][PLACES], even[SIDE], odd[SIDE];
                for (int start = 0; start < inputs; start += panel->width) {
                    panel = panel_of(inputs - start);
                    size_t wide = panel->width, place_step = wide * v_channel;
                    for (int channel = 0; channel < panel->width; channel += LANES) {
                        columns_of_inputs(even_x + start + channel, &padded, half[0]);
                        columns_of_inputs(odd_x + start + channel, &padded, half[1]);
                        for (int i = 0; i < SIDE; i++) {
                            bf16 *to = v + PLACES * start * v_channel + SIDE * i * place_step;
                            transform_input(half[0] + SIDE * i, 1, even, 1);
                            transform_input(half[1] + SIDE * i, 1, odd, 1);
                            EACH(int j = 0; j < SIDE; j++)
                            store_pairs(to + j * place_step + t * wide + channel * 2,
                                        to_bf16(even[j]), odd[j]);
                        }
                    }
                }
                for (int channel = 0; channel < outputs; channel += LANES) {
                    columns_of_gradients(even_dy + channel, &padded_dy, half[0]);
                    columns_of_gradients(odd_dy + channel, &padded_dy, half[1]);
                    for (int i = 0; i < SIDE; i++) {
                        transform_gradient(half[0] + TILE * i, 1, even, 1);
                        transform_gradient(half[1] + TILE * i, 1, odd, 1);
                        EACH(int j = 0; j < SIDE; j++)
                        store_pairs(d + (SIDE * i + j) * d_place + t * (size_t)outputs + channel * 2,
                                    to_bf16(even[j]), odd[j]);
                    }
                }
            }
            for (int place = 0; place < PLACES; place++) {
                int kind = kind_of(place), pairs = (block.end[kind] - block.begin[kind]) / 2;
                const bf16 *left = d + place * d_place + (size_t)block.begin[kind] * outputs;
                for (int start = 0; start < inputs; start += panel->width) {
                    panel = panel_of(inputs - start);
                    size_t wide = panel->width;
                    const bf16 *right =
                        v + (PLACES * start + place * wide) * v_channel + block.begin[kind] * wide;
                    for (int row = 0; row < outputs; row += panel->adding_rows)
                        panel->adding(left + 2 * row, 2, 2 * (size_t)outputs, right, pairs,
                                      u + place * u_place + (size_t)row * inputs + start, inputs);
                }
            }
        }
    }
    for (int o = 0; o < outputs; o++)
        for (int i = 0; i < inputs; i += LANES) {
            __m512 half[3 * SIDE]; /* G'U, [3][6] */
            const float *from = u + (size_t)o * inputs + i;
            float *to = out + (size_t)o * 9 * inputs + i;
            for (int j = 0; j < SIDE; j++) {
                __m512 p[SIDE];
                for (int k = 0; k < SIDE; k++) p[k] = _mm512_loadu_ps(from + (SIDE * k + j) * u_place);
                transform_back(p, 1, half + j, SIDE);
            }
            for (int k = 0; k < 3; k++) {
                __m512 g[3];
                transform_back(half + SIDE * k, 1, g, 1);
                for (int j = 0; j < 3; j++)
                    _mm512_storeu_ps(to + (3 * k + j) * (size_t)inputs, g[j]);
            }
        }
    return 0;
}
