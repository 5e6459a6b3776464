// Walking two arrays together, one of which may be spread over the other.
//
// An operand is walked entry by entry (0), again and again (1: entry i % period), with each entry
// repeated (2: i / period), or is a single number (3). The launcher defines X_WALK and Y_WALK;
// PACKED, whether all is moved in packs, which a period must be a multiple of; INDEX.
#ifndef HELIXML_PAIRS
#define HELIXML_PAIRS
#include "prelude.cuh"

// Where an operand has what belongs to entry i of the result
template <int WALK>
__device__ __forceinline__ INDEX place(INDEX i, INDEX period)
{
    return WALK == 0 ? i : WALK == 1 ? i % period : WALK == 2 ? i / period : 0;
}

// Read the entries from i on; a pack at once if STEP is more than 1
template <int WALK, int STEP>
__device__ __forceinline__ void fetch(const SCALAR* x, INDEX i, INDEX period, ACCUM* values)
{
    INDEX at = place<WALK>(i, period);
    if (STEP > 1 && WALK < 2) {
        load_pack(x + at, values);
    } else {
        values[0] = load(x + at);
#pragma unroll
        for (int j = 1; j < STEP; j++) values[j] = values[0];
    }
}

template <class Operation>
__device__ __forceinline__ void join(
    const SCALAR* x, const SCALAR* y, SCALAR* z, INDEX size, INDEX x_period, INDEX y_period)
{
    const int STEP = PACKED ? PACK : 1;
    for (INDEX i = (INDEX)position() * STEP; i < size; i += (INDEX)positions() * STEP) {
        ACCUM left[STEP];
        ACCUM right[STEP];
        fetch<X_WALK, STEP>(x, i, x_period, left);
        fetch<Y_WALK, STEP>(y, i, y_period, right);
#pragma unroll
        for (int j = 0; j < STEP; j++) left[j] = Operation::of(left[j], right[j]);
        if (STEP > 1) store_pack(z + i, left);
        else store(z + i, left[0]);
    }
}

#endif
