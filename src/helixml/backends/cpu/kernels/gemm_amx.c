/* Matrix products by the tiles of AMX: float32 in and out, multiplied as bfloat16.

   A number is split into two of bfloat16, x = h + l, with an error of 2^-17 of x or less, and the
   product into Ah Bh + Ah Bl + Al Bh, after Henry, Tang & Heinecke (2019), "Leveraging the bfloat16
   artificial intelligence datatype for higher-precision computations". Sums are float32. Where
   the operands are bfloat16 to begin with, h is all of them, and the first product is enough.

   B is packed once and C computed in blocks, as gemm.c explains; here a step of a panel is 32 steps
   of k by 32 columns, in four tiles of 1 KiB: h of both halves of the columns, then l. A tile of B
   has 16 pairs of steps, one of A has 16 rows. An infinity gives nan, for h - inf does; what is
   smaller than 2^-126 counts as 0.

   Compiled once, by gcc from 11 on; other compilers make it say that there is no AMX. The tests
   emulate the tiles. */
#define _GNU_SOURCE /* for syscall */
#include "kernels.h"

#if defined(HELIX_EMULATED_TILES)
#define HAS_TILES 1
#elif defined(__x86_64__) && defined(__linux__) && !defined(__clang__) && __GNUC__ >= 11
#define HAS_TILES 1
#include <immintrin.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

int helix_has_amx(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, XSAVE_TILES = 3 << 17 };
    uint32_t a = 7, b, c = 0, d;
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("fma"))
        return 0;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (!(d >> 24 & 1) || !(d >> 22 & 1)) /* AMX-TILE, AMX-BF16 */
        return 0;
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & XSAVE_TILES) == XSAVE_TILES &&
           !syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA);
}

#pragma GCC optimize("O3")
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,fma,prefer-vector-width=512")
#pragma GCC target("amx-tile,amx-bf16")
#define HELIX_ISA avx512
#define HELIX_DOUBLE 0
#else
#define HAS_TILES 0

int helix_has_amx(void) { return 0; }
int helix_gemm_amx_pack(const void *call, ptrdiff_t first, ptrdiff_t last) {
    (void)call, (void)first, (void)last;
    return HELIX_NO_MEMORY; /* nobody calls this */
}
int helix_gemm_amx(const void *call, ptrdiff_t first, ptrdiff_t last) {
    return helix_gemm_amx_pack(call, first, last);
}
#endif

#if HAS_TILES
#include "gemm.h"
#include "tiles.h"

#include <stdint.h>

enum { DEPTH = HELIX_GEMM_DEPTH, SIDE = 32, TILE_ROWS = 16, TILE = TILE_ROWS * SIDE };
enum { SQUARE = 4 * TILE }; /* numbers of bfloat16 that SIDE x SIDE numbers become */

_Static_assert(HELIX_GEMM_STEPS % SIDE == 0 && DEPTH % SIDE == 0, "runs must be whole squares");
_Static_assert(HELIX_GEMM_COLUMNS % SIDE == 0, "panels must be whole squares");

typedef float numbers __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t words __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t halves __attribute__((vector_size(32), aligned(2), may_alias));

/* All eight tiles have 16 rows of 64 bytes. */
INLINE void begin_tiles(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } layout = {.palette = 1};
    for (int i = 0; i < 8; i++)
        layout.row_bytes[i] = 64, layout.rows[i] = TILE_ROWS;
    _tile_loadconfig(&layout);
}

/* The upper half of each word is the nearest bfloat16, ties to even; what is finite stays so. */
INLINE words to_bfloat16(words bits) {
    words is_odd_number = (bits & 0x7fffffffu) >= 0x7f800000u;
    words up = bits + 0x7fffu + (bits >> 16 & 1);
    words overflows = ~is_odd_number & ((up & 0x7fffffffu) >= 0x7f800000u);
    words plain = bits | (((bits & 0x7fffffffu) > 0x7f800000u) & 0x400000u); /* nan stays nan */
    words unchanged = is_odd_number | overflows;
    return ((plain & unchanged) | (up & ~unchanged)) & 0xffff0000u;
}

/* 16 numbers as sums of two of bfloat16, in the upper halves of the words. */
INLINE void split_in_two(const float *from, words *high, words *low) {
    words bits = *(const words *)from;
    *high = to_bfloat16(bits);
    *low = to_bfloat16((words)((numbers)bits - (numbers)*high));
}

/* A square of B, of so many columns and steps, beginning at b. */
static void pack_steps(uint16_t *to, panel b, ptrdiff_t columns, ptrdiff_t steps) {
    float square[SIDE * SIDE + WIDTH];
    pack(square, SIDE, b, columns, steps);
    memset(square + steps * SIDE, 0, (SIDE - steps) * SIDE * sizeof *square);
    for (ptrdiff_t i = 0; i < SIDE; i += 2)
        for (ptrdiff_t j = 0; j < SIDE; j += 16) {
            words even_high, even_low, odd_high, odd_low;
            split_in_two(square + i * SIDE + j, &even_high, &even_low);
            split_in_two(square + (i + 1) * SIDE + j, &odd_high, &odd_low);
            uint16_t *at = to + j / 16 * TILE + i / 2 * SIDE;
            *(words *)at = even_high >> 16 | odd_high;
            *(words *)(at + 2 * TILE) = even_low >> 16 | odd_low;
        }
}

/* A square of A, of so many rows and steps, whose step is b's column: see `panel`. */
static void pack_rows(uint16_t *to, panel a, ptrdiff_t rows, ptrdiff_t steps) {
    float square[SIDE * SIDE + WIDTH];
    pack(square, SIDE, a, steps, rows);
    memset(square + rows * SIDE, 0, (SIDE - rows) * SIDE * sizeof *square);
    for (ptrdiff_t i = 0; i < SIDE; i++) {
        for (ptrdiff_t j = steps; j < SIDE; j++)
            square[i * SIDE + j] = 0;
        for (ptrdiff_t j = 0; j < SIDE; j += 16) {
            words high, low;
            split_in_two(square + i * SIDE + j, &high, &low);
            uint16_t *at = to + i * SIDE + j;
            *(halves *)at = __builtin_convertvector(high >> 16, halves);
            *(halves *)(at + 2 * TILE) = __builtin_convertvector(low >> 16, halves);
        }
    }
}

/* Where packed B has the panel at `column`, from the first step of a run on. */
static uint16_t *packed_panel(const helix_gemm *g, ptrdiff_t run, ptrdiff_t column) {
    ptrdiff_t steps = round_up(smaller(DEPTH, g->steps - run), SIDE);
    ptrdiff_t columns = round_up(g->columns, HELIX_GEMM_COLUMNS);
    return (uint16_t *)g->packed + 2 * (run * columns + column * steps);
}

int helix_gemm_amx_pack(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_gemm *g = call;
    ptrdiff_t end = smaller(last * HELIX_GEMM_STEPS, g->steps);
    for (ptrdiff_t step = first * HELIX_GEMM_STEPS; step < end; step += SIDE) {
        ptrdiff_t run = step / DEPTH * DEPTH;
        for (ptrdiff_t j = 0; j < g->columns; j += SIDE) {
            const real *b = (const real *)g->b + step * g->b_step + j * g->b_column;
            pack_steps(packed_panel(g, run, j) + (step - run) / SIDE * SQUARE,
                       (panel){b, g->b_column, g->b_step}, smaller(SIDE, g->columns - j),
                       smaller(SIDE, g->steps - step));
        }
    }
    return 0;
}

/* A square of C, whose sums begin with what is there if `add`. */
INLINE void multiply_squares(ptrdiff_t squares, const uint16_t *a, const uint16_t *b, int split_too,
                             float *c, ptrdiff_t c_row, int add) {
    ptrdiff_t row_bytes = c_row * sizeof *c;
    float *below = c + TILE_ROWS * c_row;
    if (add) {
        _tile_loadd(0, c, row_bytes); _tile_loadd(1, c + 16, row_bytes);
        _tile_loadd(2, below, row_bytes); _tile_loadd(3, below + 16, row_bytes);
    } else {
        _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    }
#define ADD_PRODUCTS()                                                                      \
    _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7);                                       \
    _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7)
    for (ptrdiff_t p = 0; p < squares; p++, a += SQUARE, b += SQUARE) {
        _tile_loadd(4, a, 64); _tile_loadd(5, a + TILE, 64);
        _tile_loadd(6, b, 64); _tile_loadd(7, b + TILE, 64);
        ADD_PRODUCTS();
        if (split_too) {
            _tile_loadd(4, a + 2 * TILE, 64); _tile_loadd(5, a + 3 * TILE, 64);
            ADD_PRODUCTS();
            _tile_loadd(4, a, 64); _tile_loadd(5, a + TILE, 64);
            _tile_loadd(6, b + 2 * TILE, 64); _tile_loadd(7, b + 3 * TILE, 64);
            ADD_PRODUCTS();
        }
    }
#undef ADD_PRODUCTS
    _tile_stored(0, c, row_bytes); _tile_stored(1, c + 16, row_bytes);
    _tile_stored(2, below, row_bytes); _tile_stored(3, below + 16, row_bytes);
}

/* The same with so many rows and columns; where these are few, by way of a whole square. */
static void multiply_part(ptrdiff_t squares, const uint16_t *a, const uint16_t *b, int split_too,
                          float *c, ptrdiff_t c_row, ptrdiff_t rows, ptrdiff_t columns, int add) {
    if (rows == SIDE && columns == SIDE) {
        multiply_squares(squares, a, b, split_too, c, c_row, add);
        return;
    }
    float whole[SIDE * SIDE];
    multiply_squares(squares, a, b, split_too, whole, SIDE, 0);
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++)
            c[i * c_row + j] = whole[i * SIDE + j] + (add ? c[i * c_row + j] : 0);
}

/* Rows row .. row_end - 1 and columns column .. column_end - 1 of C. */
static void block(const helix_gemm *g, ptrdiff_t row, ptrdiff_t row_end, ptrdiff_t column,
                  ptrdiff_t column_end, uint16_t *packed_a) {
    for (ptrdiff_t run = 0; run < g->steps; run += DEPTH) {
        ptrdiff_t steps = smaller(DEPTH, g->steps - run), squares = round_up(steps, SIDE) / SIDE;
        for (ptrdiff_t i = row; i < row_end; i += SIDE)
            for (ptrdiff_t p = 0; p < steps; p += SIDE) {
                const real *a = (const real *)g->a + i * g->a_row + (run + p) * g->a_step;
                pack_rows(packed_a + ((i - row) / SIDE * squares + p / SIDE) * SQUARE,
                          (panel){a, g->a_step, g->a_row}, smaller(SIDE, row_end - i),
                          smaller(SIDE, steps - p));
            }
        int is_last = g->finish && run + DEPTH >= g->steps;
        for (ptrdiff_t j = column; j < column_end; j += SIDE)
            for (ptrdiff_t i = row; i < row_end; i += SIDE) {
                ptrdiff_t rows = smaller(SIDE, row_end - i);
                ptrdiff_t columns = smaller(SIDE, column_end - j);
                multiply_part(squares, packed_a + (i - row) / SIDE * squares * SQUARE,
                              packed_panel(g, run, j), g->split, (float *)g->c + i * g->c_row + j,
                              g->c_row, rows, columns, g->add || run > 0);
                if (is_last)
                    finish_tile(g, i, j, rows, columns);
            }
    }
}

int helix_gemm_amx(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_gemm *g = call;
    ptrdiff_t most_rows = (g->rows / SIDE / g->row_items + 2) * SIDE;
    ptrdiff_t squares = round_up(smaller(DEPTH, g->steps), SIDE) / SIDE;
    uint16_t *packed_a = helix_workspace(most_rows / SIDE * squares * SQUARE * sizeof *packed_a);
    if (!packed_a)
        return HELIX_NO_MEMORY;
    begin_tiles();
    for (ptrdiff_t item = first; item < last; item++) {
        ptrdiff_t i = item / g->column_items, j = item % g->column_items;
        block(g, part_start(g->rows, SIDE, g->row_items, i),
              part_start(g->rows, SIDE, g->row_items, i + 1),
              part_start(g->columns, SIDE, g->column_items, j),
              part_start(g->columns, SIDE, g->column_items, j + 1), packed_a);
    }
    _tile_release();
    return 0;
}

#endif
