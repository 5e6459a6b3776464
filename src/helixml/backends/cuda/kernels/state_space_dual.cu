// State-space duality (Dao & Gu 2024, "Transformers are SSMs", section 6), forward and backward, on
// chunks of at most TILE steps. With a_t = exp(dt_t A), X_j = dt_j x_j and H, (p, n), the state
// before a chunk of s steps:
//
//   W_ij = C_i . B_j  a_(j+1) ... a_i       for j <= i, else 0
//   y_i  = sum_j W_ij X_j + a_1 ... a_i  H C_i + D x_i
//   H'   = a_1 ... a_s H + sum_j a_(j+1) ... a_s  X_j B_j^T
//
// `chunk_sums` finds what each chunk adds to the state, `pass_states` walks the chunks and leaves
// the state before each, `chunk_outputs` finds y. The gradient takes the same first two backwards,
// for G, the cotangent of H', then `pull_channels`, `pull_states` and `pull_rates`.
//
// Decays are products, not exponentials of differences of sums, which lose what is small behind what
// is large. All sums are in registers: SIDE by SIDE threads own the entries y + i SIDE, x + j SIDE of
// a tile, and factors come through shared memory, SLAB columns of the one and rows of the other.
//
// The launcher defines OWN, 1, 2 or 4.
#include "reduction.cuh"

#define SIDE 16
#define THREADS (SIDE * SIDE)
#define TILE (SIDE * OWN)
#define SLAB 16
#define MATRIX_ROW (TILE + 1)

// Shared memory of a block: slabs of the factors of a product; of a chunk, what is left of step j at
// step i, and later what is made of it; a_1 ... a_t; a_(t+1) ... a_s; dt_t, 0 behind the end.
struct Room {
    ACCUM left[SLAB * (TILE + 1)];
    ACCUM right[SLAB * (TILE + 1)];
    ACCUM matrix[TILE * MATRIX_ROW];
    ACCUM since[TILE];
    ACCUM until[TILE];
    ACCUM dt[TILE];
    ACCUM decay[TILE];
};

// Lengths: of the sequence, of a head and of a state, of a chunk; numbers of heads, groups, chunks
struct Sizes { int l, h, p, g, n, size, chunks; };

// One chunk of one head
struct Chunk {
    Sizes sizes;
    long long place;  // (b, h, chunks)
    long long row;    // of its first step, (b, l)
    int head, group, steps;

    __device__ __forceinline__ Chunk(const Sizes& sizes, long long batch, int head, int number)
        : sizes(sizes), head(head)
    {
        place = (batch * sizes.h + head) * sizes.chunks + number;
        row = batch * sizes.l + (long long)number * sizes.size;
        group = head / (sizes.h / sizes.g);
        steps = min(sizes.size, sizes.l - number * sizes.size);
    }

    // An entry of x and its like, of B and its like, of a state; 0 beyond the last one
    __device__ __forceinline__ ACCUM channel(const SCALAR* x, int t, int at) const
    {
        if (t >= steps || at >= sizes.p) return 0;
        return load(x + channel_place(t, at));
    }
    __device__ __forceinline__ ACCUM feature(const SCALAR* x, int t, int at) const
    {
        if (t >= steps || at >= sizes.n) return 0;
        return load(x + ((row + t) * sizes.g + group) * sizes.n + at);
    }
    __device__ __forceinline__ ACCUM state(const ACCUM* states, int p, int n) const
    {
        if (p >= sizes.p || n >= sizes.n) return 0;
        return states[(place * sizes.p + p) * sizes.n + n];
    }
    __device__ __forceinline__ long long channel_place(int t, int at) const
    {
        return ((row + t) * sizes.h + head) * sizes.p + at;
    }
    // Of a step among all (b, l, h)
    __device__ __forceinline__ long long step_place(int t) const
    {
        return (row + t) * sizes.h + head;
    }
};

// Fill since, until and dt, and with MATRIX the decays between steps. What was there before has been
// read as of the last barrier; behind comes another, with which every product begins.
template <bool MATRIX>
__device__ __forceinline__ void find_decays(
    Room& room, const Chunk& chunk, const SCALAR* dt, const SCALAR* A)
{
    int t = threadIdx.x;
    if (t < TILE) {
        ACCUM step = t < chunk.steps ? load(dt + chunk.step_place(t)) : (ACCUM)0;
        room.dt[t] = step;
        room.decay[t] = t < chunk.steps ? exponential(step * load(A + chunk.head)) : (ACCUM)1;
    }
    __syncthreads();
    if (t < TILE) {
        ACCUM before = 1, after = 1;
#pragma unroll 8
        for (int i = 0; i < TILE; i++) {
            if (i <= t) before *= room.decay[i];
            else after *= room.decay[i];
            if (MATRIX) room.matrix[i * MATRIX_ROW + t] = i < t ? (ACCUM)0 : after;
        }
        room.since[t] = before;
        room.until[t] = after;
    }
}

typedef ACCUM Sums[OWN][OWN];

// The entries of a tile that this thread has
template <class Visit> __device__ __forceinline__ void each_own(Visit visit)
{
    int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
#pragma unroll
    for (int i = 0; i < OWN; i++)
#pragma unroll
        for (int j = 0; j < OWN; j++) visit(i, j, y + i * SIDE, x + j * SIDE);
}

__device__ __forceinline__ void clear(Sums& sums)
{
    each_own([&](int i, int j, int, int) { sums[i][j] = 0; });
}

// sums of (row, column) += left(row, k) right(k, column) for k < depth. ALONG says that neighbours
// of k are neighbours in memory.
template <bool LEFT_ALONG, bool RIGHT_ALONG, class Left, class Right>
__device__ __forceinline__ void add_product(
    Room& room, Sums& sums, int depth, Left left, Right right)
{
    int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    for (int first = 0; first < depth; first += SLAB) {
        __syncthreads();  // the slabs have been read, and what `left` reads has been written
#pragma unroll 2
        for (int i = threadIdx.x; i < SLAB * TILE; i += THREADS) {
            int along = i % SLAB, across = i / SLAB, k = i / TILE, at = i % TILE;
            if (LEFT_ALONG) room.left[along * (TILE + 1) + across] = left(across, first + along);
            else room.left[k * (TILE + 1) + at] = left(at, first + k);
            if (RIGHT_ALONG) room.right[along * (TILE + 1) + across] = right(first + along, across);
            else room.right[k * (TILE + 1) + at] = right(first + k, at);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < SLAB; k++) {
            ACCUM columns[OWN];
#pragma unroll
            for (int j = 0; j < OWN; j++) columns[j] = room.right[k * (TILE + 1) + x + j * SIDE];
#pragma unroll
            for (int i = 0; i < OWN; i++) {
                ACCUM row = room.left[k * (TILE + 1) + y + i * SIDE];
#pragma unroll
                for (int j = 0; j < OWN; j++) sums[i][j] += row * columns[j];
            }
        }
    }
}

// The sum of a value over the threads that have a row, to all of them
__device__ __forceinline__ ACCUM row_sum(ACCUM value)
{
#pragma unroll
    for (int distance = SIDE / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

// Call put(row, sum of terms(i, j, row, column) over the columns) for each row, on one thread.
template <class Terms, class Put> __device__ __forceinline__ void sum_rows(Terms terms, Put put)
{
    int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
#pragma unroll
    for (int i = 0; i < OWN; i++) {
        ACCUM sum = 0;
#pragma unroll
        for (int j = 0; j < OWN; j++) sum += terms(i, j, y + i * SIDE, x + j * SIDE);
        sum = row_sum(sum);
        if (x == 0) put(y + i * SIDE, sum);
    }
}

// sums: (b, h, chunks, p, n), what each chunk adds to the state: sum_j until_j X_j B_j^T; with
// `backward`, where x is g and B is C, to the cotangent of the state before it: sum_i since_i g_i
// C_i^T. wholes: (b, h, chunks), a_1 ... a_s. Grid: chunks and tiles of a state.
extern "C" __global__ void __launch_bounds__(THREADS, 4) chunk_sums(
    const SCALAR* __restrict__ x, const SCALAR* __restrict__ dt, const SCALAR* __restrict__ A,
    const SCALAR* __restrict__ B, ACCUM* __restrict__ sums, ACCUM* __restrict__ wholes, int l,
    int h, int p, int g, int n, int size, int chunks, bool backward)
{
    __shared__ Room room;
    long long line = blockIdx.x / chunks;
    const Chunk chunk({l, h, p, g, n, size, chunks}, line / h, line % h, blockIdx.x % chunks);
    int wide = (n + TILE - 1) / TILE;
    int first = blockIdx.y / wide * TILE, start = blockIdx.y % wide * TILE;
    find_decays<false>(room, chunk, dt, A);
    Sums own;
    clear(own);
    add_product<false, false>(room, own, chunk.steps,
        [&](int row, int t) {
            if (t >= chunk.steps) return (ACCUM)0;
            ACCUM factor = backward ? room.since[t] : room.until[t] * room.dt[t];
            return factor * chunk.channel(x, t, first + row);
        },
        [&](int t, int column) { return chunk.feature(B, t, start + column); });
    each_own([&](int i, int j, int row, int column) {
        if (first + row < p && start + column < n)
            sums[(chunk.place * p + first + row) * n + start + column] = own[i][j];
    });
    if (blockIdx.y == 0 && threadIdx.x == 0) wholes[chunk.place] = room.since[TILE - 1];
}

// sums become the state before each chunk, from the state `first` or 0, and `last` the one after
// all; with `backward` the cotangents of the state after each, from the last chunk to the first,
// and handed[chunk, tile] = a_1 ... a_s G . H, H being in `states`. Grid: heads and tiles of a state.
extern "C" __global__ void __launch_bounds__(THREADS) pass_states(
    const ACCUM* __restrict__ wholes, const SCALAR* __restrict__ first, ACCUM* __restrict__ sums,
    SCALAR* __restrict__ last, const ACCUM* __restrict__ states, ACCUM* __restrict__ handed,
    int chunks, int entries, bool backward)
{
    long long line = blockIdx.x;
    int entry = blockIdx.y * THREADS + threadIdx.x;
    bool there = entry < entries;
    ACCUM state = first && there ? load(first + line * entries + entry) : (ACCUM)0;
#pragma unroll 1
    for (int i = 0; i < chunks; i++) {
        long long chunk = line * chunks + (backward ? chunks - 1 - i : i);
        long long at = chunk * entries + entry;
        ACCUM whole = wholes[chunk], added = there ? sums[at] : (ACCUM)0;
        if (there) sums[at] = state;
        if (backward) {
            ACCUM all = block_sum(there ? state * states[at] : (ACCUM)0);
            if (threadIdx.x == 0) handed[chunk * gridDim.y + blockIdx.y] = whole * all;
        }
        state = whole * state + added;
    }
    if (last && there) store(last + line * entries + entry, state);
}

// y: (b, l, h, p). Grid: chunks and tiles of channels.
extern "C" __global__ void __launch_bounds__(THREADS, 3) chunk_outputs(
    const SCALAR* __restrict__ x, const SCALAR* __restrict__ dt, const SCALAR* __restrict__ A,
    const SCALAR* __restrict__ B, const SCALAR* __restrict__ C, const SCALAR* __restrict__ D,
    const ACCUM* __restrict__ states, SCALAR* __restrict__ y, int l, int h, int p, int g, int n,
    int size, int chunks)
{
    __shared__ Room room;
    long long line = blockIdx.x / chunks;
    const Chunk chunk({l, h, p, g, n, size, chunks}, line / h, line % h, blockIdx.x % chunks);
    int start = blockIdx.y * TILE;
    find_decays<true>(room, chunk, dt, A);
    auto features_of_C = [&](int row, int k) { return chunk.feature(C, row, k); };
    Sums own;
    clear(own);
    add_product<true, true>(room, own, n, features_of_C,
        [&](int k, int column) { return chunk.feature(B, column, k); });
    each_own([&](int i, int j, int row, int column) {
        ACCUM& decay = room.matrix[row * MATRIX_ROW + column];
        decay = column > row ? (ACCUM)0 : decay * own[i][j] * room.dt[column];
        own[i][j] = 0;
    });
    add_product<true, true>(room, own, n, features_of_C,
        [&](int k, int column) { return chunk.state(states, start + column, k); });
    each_own([&](int i, int j, int row, int) { own[i][j] *= room.since[row]; });
    add_product<true, false>(room, own, chunk.steps,
        [&](int row, int t) { return room.matrix[row * MATRIX_ROW + t]; },
        [&](int t, int column) { return chunk.channel(x, t, start + column); });
    ACCUM skip = D ? load(D + chunk.head) : (ACCUM)0;
    each_own([&](int i, int j, int row, int column) {
        if (row >= chunk.steps || start + column >= p) return;
        ACCUM result = own[i][j];
        if (D) result += skip * chunk.channel(x, row, start + column);
        store(y + chunk.channel_place(row, start + column), result);
    });
}

// The rules of the gradient, with g the cotangent of y and E_ij = (g_i . X_j) W_ij:
//
//   dX_j = sum_i W_ij g_i + until_j G B_j,   dx_j = dt_j dX_j + D g_j
//   dC_i = sum_j S_ij B_j + since_i H^T g_i,   S_ij = (g_i . X_j) times the decay
//   dB_j = sum_i S_ij C_i + until_j G^T X_j
//
// and log a_t gets what each term in which a_t is a factor, times its gradient, adds up to: E_ij for
// j < t <= i, u_i = since_i (H C_i) . g_i for t <= i, v_j = until_j (G B_j) . X_j for j < t, and all
// that the chunk hands on.

// within_t = sum of E_ij over j < t <= i, from scores C_i . B_j: sums up the columns, then along the
// rows. The decays in the room are overwritten.
__device__ __forceinline__ void pull_within(
    Room& room, const Chunk& chunk, const Sums& scores, const SCALAR* g_y, const SCALAR* x,
    ACCUM* within)
{
    Sums along;
    clear(along);
    add_product<true, true>(room, along, chunk.sizes.p,
        [&](int row, int k) { return chunk.channel(g_y, row, k); },
        [&](int k, int column) { return room.dt[column] * chunk.channel(x, column, k); });
    each_own([&](int i, int j, int row, int column) {
        ACCUM& entry = room.matrix[row * MATRIX_ROW + column];
        entry = column < row ? entry * scores[i][j] * along[i][j] : (ACCUM)0;
    });
    __syncthreads();
    if (threadIdx.x < TILE) {
        ACCUM sum = 0;
#pragma unroll 8
        for (int i = TILE - 1; i >= 0; i--) {
            ACCUM& entry = room.matrix[i * MATRIX_ROW + threadIdx.x];
            entry = sum += entry;
        }
    }
    __syncthreads();
    sum_rows(
        [&](int, int, int row, int column) {
            return column < row ? room.matrix[row * MATRIX_ROW + column] : (ACCUM)0;
        },
        [&](int row, ACCUM sum) {
            if (row < chunk.steps) within[chunk.step_place(row)] = sum;
        });
}

// dx; and for each step, (tiles, b, l, h): `direct` is x . dX, `skips` g . x, `kept` v; in the first
// tile also `within`, the part of E. Grid: chunks and tiles of channels.
extern "C" __global__ void __launch_bounds__(THREADS, 2) pull_channels(
    const SCALAR* __restrict__ g_y, const SCALAR* __restrict__ x, const SCALAR* __restrict__ dt,
    const SCALAR* __restrict__ A, const SCALAR* __restrict__ B, const SCALAR* __restrict__ C,
    const SCALAR* __restrict__ D, const ACCUM* __restrict__ exits, SCALAR* __restrict__ dx,
    ACCUM* __restrict__ direct, ACCUM* __restrict__ skips, ACCUM* __restrict__ kept,
    ACCUM* __restrict__ within, int l, int h, int p, int g, int n, int size, int chunks,
    long long steps)
{
    __shared__ Room room;
    long long line = blockIdx.x / chunks;
    const Chunk chunk({l, h, p, g, n, size, chunks}, line / h, line % h, blockIdx.x % chunks);
    int start = blockIdx.y * TILE;
    find_decays<true>(room, chunk, dt, A);
    Sums own;
    clear(own);
    add_product<true, true>(room, own, n,
        [&](int row, int k) { return chunk.feature(C, row, k); },
        [&](int k, int column) { return chunk.feature(B, column, k); });
    if (blockIdx.y == 0) {
        pull_within(room, chunk, own, g_y, x, within);
        find_decays<true>(room, chunk, dt, A);
        __syncthreads();
    }
    each_own([&](int i, int j, int row, int column) {
        ACCUM& decay = room.matrix[row * MATRIX_ROW + column];
        decay = column > row ? (ACCUM)0 : decay * own[i][j];
        own[i][j] = 0;
    });

    add_product<true, true>(room, own, n,
        [&](int row, int k) { return chunk.feature(B, row, k); },
        [&](int k, int column) { return chunk.state(exits, start + column, k); });
    each_own([&](int i, int j, int row, int) { own[i][j] *= room.until[row]; });
    long long tile = blockIdx.y * steps;
    auto entry = [&](int row, int column) { return chunk.channel(x, row, start + column); };
    sum_rows(
        [&](int i, int j, int row, int column) { return own[i][j] * entry(row, column); },
        [&](int row, ACCUM sum) {
            if (row < chunk.steps) kept[tile + chunk.step_place(row)] = room.dt[row] * sum;
        });
    add_product<false, false>(room, own, chunk.steps,
        [&](int row, int t) { return room.matrix[t * MATRIX_ROW + row]; },
        [&](int t, int column) { return chunk.channel(g_y, t, start + column); });
    sum_rows(
        [&](int i, int j, int row, int column) { return own[i][j] * entry(row, column); },
        [&](int row, ACCUM sum) {
            if (row < chunk.steps) direct[tile + chunk.step_place(row)] = sum;
        });
    sum_rows(
        [&](int, int, int row, int column) {
            return chunk.channel(g_y, row, start + column) * entry(row, column);
        },
        [&](int row, ACCUM sum) {
            if (row < chunk.steps) skips[tile + chunk.step_place(row)] = sum;
        });
    ACCUM skip = D ? load(D + chunk.head) : (ACCUM)0;
    each_own([&](int i, int j, int row, int column) {
        if (row >= chunk.steps || start + column >= p) return;
        ACCUM result = room.dt[row] * own[i][j];
        if (D) result += skip * chunk.channel(g_y, row, start + column);
        store(dx + chunk.channel_place(row, start + column), result);
    });
}

// dB, dC: (b, l, g, parts, n), sums over `share` heads of a group each; read: (tiles, b, l, h), u of
// each step. Grid: chunks of each part of each group, and tiles of a row of B.
extern "C" __global__ void __launch_bounds__(THREADS, 2) pull_states(
    const SCALAR* __restrict__ g_y, const SCALAR* __restrict__ x, const SCALAR* __restrict__ dt,
    const SCALAR* __restrict__ A, const SCALAR* __restrict__ B, const SCALAR* __restrict__ C,
    const ACCUM* __restrict__ states, const ACCUM* __restrict__ exits, ACCUM* __restrict__ dB,
    ACCUM* __restrict__ dC, ACCUM* __restrict__ read, int l, int h, int p, int g, int n, int size,
    int chunks, int parts, int share, long long steps)
{
    __shared__ Room room;
    long long line = blockIdx.x / chunks;
    int part = line % parts, group = line / parts % g, start = blockIdx.y * TILE;
    long long batch = line / parts / g;
    const Sizes sizes = {l, h, p, g, n, size, chunks};
    int behind = (group + 1) * (h / g), head = group * (h / g) + part * share;
    Sums of_B, of_C, own;
    clear(of_B);
    clear(of_C);
    for (int last = min(behind, head + share); head < last; head++) {
        const Chunk chunk(sizes, batch, head, blockIdx.x % chunks);
        auto moved = [&](int t, int at) { return room.dt[t] * chunk.channel(x, t, at); };
        auto cotangent = [&](int t, int at) { return chunk.channel(g_y, t, at); };
        find_decays<true>(room, chunk, dt, A);
        clear(own);
        add_product<true, true>(room, own, p, cotangent,
            [&](int k, int column) { return moved(column, k); });
        each_own([&](int i, int j, int row, int column) {
            ACCUM& decay = room.matrix[row * MATRIX_ROW + column];
            decay = column > row ? (ACCUM)0 : decay * own[i][j];
            own[i][j] = 0;
        });

        add_product<true, false>(room, own, p, cotangent,
            [&](int k, int column) { return chunk.state(states, k, start + column); });
        each_own([&](int i, int j, int row, int) {
            own[i][j] *= room.since[row];
            of_C[i][j] += own[i][j];
        });
        sum_rows(
            [&](int i, int j, int row, int column) {
                return own[i][j] * chunk.feature(C, row, start + column);
            },
            [&](int row, ACCUM sum) {
                if (row < chunk.steps) read[blockIdx.y * steps + chunk.step_place(row)] = sum;
            });
        add_product<true, false>(room, of_C, chunk.steps,
            [&](int row, int t) { return room.matrix[row * MATRIX_ROW + t]; },
            [&](int t, int column) { return chunk.feature(B, t, start + column); });

        clear(own);
        add_product<true, false>(room, own, p, moved,
            [&](int k, int column) { return chunk.state(exits, k, start + column); });
        each_own([&](int i, int j, int row, int) { of_B[i][j] += room.until[row] * own[i][j]; });
        add_product<false, false>(room, of_B, chunk.steps,
            [&](int row, int t) { return room.matrix[t * MATRIX_ROW + row]; },
            [&](int t, int column) { return chunk.feature(C, t, start + column); });
    }
    const Chunk chunk(sizes, batch, group * (h / g), blockIdx.x % chunks);
    each_own([&](int i, int j, int row, int column) {
        if (row >= chunk.steps || start + column >= n) return;
        long long at = (((chunk.row + row) * g + group) * parts + part) * n + start + column;
        dB[at] = of_B[i][j];
        dC[at] = of_C[i][j];
    });
}

// ddt: (b, l, h), and sums for A and D, (b chunks, h), from what was found for each step and in each
// tile of channels, of states, of an entry of a state. Grid: chunks. A block has TILE threads, whole
// warps.
extern "C" __global__ void __launch_bounds__(64, 1) pull_rates(
    const SCALAR* __restrict__ dt, const SCALAR* __restrict__ A, const ACCUM* __restrict__ direct,
    const ACCUM* __restrict__ skips, const ACCUM* __restrict__ kept,
    const ACCUM* __restrict__ within, const ACCUM* __restrict__ read,
    const ACCUM* __restrict__ handed, SCALAR* __restrict__ ddt, ACCUM* __restrict__ dA,
    ACCUM* __restrict__ dD, int l, int h, int p, int g, int n, int size, int chunks, int handed_each,
    long long steps)
{
    __shared__ ACCUM reads[TILE];
    __shared__ ACCUM keeps[TILE];
    long long line = blockIdx.x / chunks;
    int number = blockIdx.x % chunks, t = threadIdx.x;
    const Chunk chunk({l, h, p, g, n, size, chunks}, line / h, line % h, number);
    bool there = t < chunk.steps;
    long long at = chunk.step_place(t);
    ACCUM u = 0, v = 0, own = 0, skip = 0;
    if (there) {
        for (int tile = 0; tile < (p + TILE - 1) / TILE; tile++) {
            v += kept[tile * steps + at];
            own += direct[tile * steps + at];
            skip += skips[tile * steps + at];
        }
        for (int tile = 0; tile < (n + TILE - 1) / TILE; tile++) u += read[tile * steps + at];
    }
    if (t < TILE) {
        reads[t] = u;
        keeps[t] = v;
    }
    __syncthreads();
    ACCUM rate = 0;
    if (there) {
        rate = within[at];
        for (int i = t; i < chunk.steps; i++) rate += reads[i];
        for (int j = 0; j < t; j++) rate += keeps[j];
        for (int i = 0; i < handed_each; i++) rate += handed[chunk.place * handed_each + i];
        store(ddt + at, own + rate * load(A + chunk.head));
        rate *= load(dt + at);
    }
    rate = block_sum(rate);
    skip = block_sum(skip);
    if (t) return;
    long long sum = (line / h * chunks + number) * h + chunk.head;
    dA[sum] = rate;
    dD[sum] = skip;
}
