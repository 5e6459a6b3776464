/* Tests of the random words, against the generator's definition, and of dropout by them. */
#include "check.h"

#include <math.h>

/* Philox4x32-10 by its definition. */
static void words_at(const uint32_t key[2], uint64_t low, const uint32_t high[2], uint32_t out[4]) {
    uint32_t k0 = key[0], k1 = key[1];
    uint32_t x0 = (uint32_t)low, x1 = (uint32_t)(low >> 32), x2 = high[0], x3 = high[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53 * x0, b = (uint64_t)0xCD9E8D57 * x2;
        x0 = (uint32_t)(b >> 32) ^ x1 ^ k0, x1 = (uint32_t)b;
        x2 = (uint32_t)(a >> 32) ^ x3 ^ k1, x3 = (uint32_t)a;
        k0 += 0x9E3779B9, k1 += 0xBB67AE85;
    }
    out[0] = x0, out[1] = x1, out[2] = x2, out[3] = x3;
}

static helix_philox any_call(ptrdiff_t blocks, uint64_t low) {
    return (helix_philox){
        .blocks = blocks, .key = {(uint32_t)any_bits(), (uint32_t)any_bits()}, .low = low,
        .high = {(uint32_t)any_bits(), (uint32_t)any_bits()},
    };
}

static ptrdiff_t items_of(ptrdiff_t blocks) {
    return (blocks + HELIX_PHILOX_RUN - 1) / HELIX_PHILOX_RUN;
}

static void test_words(const helix_table *table, ptrdiff_t blocks, uint64_t low) {
    begin_case("philox: %td blocks from counter %llu", blocks, (unsigned long long)low);
    helix_philox p = any_call(blocks, low);
    p.words = guarded((size_t)blocks * 4 * sizeof *p.words);
    CHECK(run(table->philox, &p, items_of(blocks)) == 0, "%td blocks", blocks);
    for (ptrdiff_t i = 0; i < blocks; i++) {
        uint32_t exact[4];
        words_at(p.key, p.low + (uint64_t)i, p.high, exact);
        for (int j = 0; j < 4; j++)
            if (p.words[4 * i + j] != exact[j]) {
                CHECK(0, "word %td is %u, not %u", 4 * i + j, p.words[4 * i + j], exact[j]);
                return;
            }
    }
    digest_bytes(p.words, (size_t)blocks * 4 * sizeof *p.words);
    free_guarded();
}

/* The counter of the reference implementation's known answers. */
static void test_known_answers(void) {
    begin_case("philox: known answers");
    static const uint32_t pi[2] = {0x13198A2E, 0x03707344}, key[2] = {0xA4093822, 0x299F31D0};
    uint32_t out[4];
    words_at(key, UINT64_C(0x85A308D3243F6A88), pi, out);
    CHECK(out[0] == 0xD16CFE09 && out[1] == 0x94FDCCEB && out[2] == 0x5001E420 &&
              out[3] == 0x24126EA1,
          "%08x %08x %08x %08x", out[0], out[1], out[2], out[3]);
}

static void test_dropout(const helix_table *table, ptrdiff_t size) {
    begin_case("dropout of %td elements", size);
    ptrdiff_t blocks = (size + 3) / 4;
    helix_philox p = any_call(blocks, any_bits() >> 1);
    array x = random_array(size, -1, 1), y = new_array(size);
    if (size > 9) {
        x.exact[1] = NAN, x.exact[3] = INFINITY, x.exact[5] = -INFINITY, x.exact[7] = 1e-42L;
        round_array(x);
    }
    p.size = size, p.x = x.data, p.y = y.data;
    p.threshold = UINT32_C(0x40000000), p.scale = 4.0 / 3;
    CHECK(run(table->drop, &p, items_of(blocks)) == 0, "%td blocks", blocks);
    for (ptrdiff_t i = 0; i < size; i++) {
        uint32_t drawn[4];
        words_at(p.key, p.low + (uint64_t)i / 4, p.high, drawn);
        y.exact[i] = drawn[i % 4] < p.threshold ? 0 : x.exact[i] * p.scale;
    }
    CHECK_ELEMENTS(y, 1, 0);
    free_arrays();
}

void TEST(test_philox)(const helix_table *table);
void TEST(test_philox)(const helix_table *table) {
    enum { RUN = HELIX_PHILOX_RUN };
    static const ptrdiff_t sizes[] = {0, 1, 2, 3, 7, 8, 15, 17, 33, 257, RUN, RUN + 1, 3 * RUN - 5};
    test_known_answers();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        test_words(table, sizes[i], 0);
        test_words(table, sizes[i], UINT64_C(0xFFFFFFFF) - (uint64_t)sizes[i] / 2);
        test_words(table, sizes[i], UINT64_MAX - (uint64_t)sizes[i]);
        test_dropout(table, sizes[i]);
        test_dropout(table, 4 * sizes[i] + 3);
    }
}
