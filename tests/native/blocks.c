/* Tests of the cache of memory blocks. */
#include "blocks.h"
#include "check.h"

#include <stdint.h>
#include <string.h>

enum { SMALLEST = HELIX_SMALLEST_BLOCK, PAGE = 4096 };

static void forget_everything(void) {
    helix_set_block_budget(SIZE_MAX);
    helix_empty_cache();
    helix_block_statistics now = helix_block_usage();
    CHECK(now.in_use == 0 && now.cached == 0, "%zu bytes in use, %zu cached", now.in_use,
          now.cached);
}

/* What a block of so many bytes takes up: four classes to an octave. */
static size_t class_size(size_t bytes) {
    size_t size = SMALLEST / 2 / 4 * 5;
    while (size < bytes || size < SMALLEST) {
        size_t octave = 1;
        while (octave * 2 <= size)
            octave *= 2;
        size += octave / 4;
    }
    return size;
}

static void sizes_are_rounded_up_to_classes(void) {
    for (size_t base = 1; base <= (size_t)1 << 26; base *= 2)
        for (size_t quarters = 4; quarters < 8; quarters++)
            for (int offset = -1; offset <= 1; offset++) {
                size_t bytes = base * quarters / 4 + (size_t)offset;
                begin_case("%zu bytes", bytes);
                forget_everything();
                unsigned char *data = helix_take_block(bytes);
                CHECK(data && (uintptr_t)data % 64 == 0, "block at %p", (void *)data);
                size_t used = helix_block_usage().in_use;
                CHECK(used == class_size(bytes), "%zu in use, not %zu", used, class_size(bytes));
                CHECK(used >= bytes && (used <= SMALLEST || used - used / 4 <= bytes + 1),
                      "%zu in use", used);
                if (used <= 1 << 20)
                    memset(data, 1, used);
                else
                    data[0] = data[used / 2] = data[used - 1] = 1;
                helix_give_block(data);
            }
}

static void blocks_are_used_again_the_latest_first(void) {
    begin_case("reuse");
    forget_everything();
    uint64_t reused = helix_block_usage().reused, taken = helix_block_usage().taken;
    unsigned char *a = helix_take_block(100000), *b = helix_take_block(100001);
    CHECK(a != b, "both at %p", (void *)a);
    memset(a, 1, 100000), memset(b, 2, 100001);
    CHECK(a[99999] == 1 && a[0] == 1, "%d", a[0]);
    helix_give_block(a);
    helix_give_block(b);
    unsigned char *other = helix_take_block(SMALLEST * 4);
    CHECK(other != b, "a block of another class at %p", (void *)b);
    CHECK(helix_take_block(99999) == b, "not %p", (void *)b);
    CHECK(helix_take_block(SMALLEST * 3 / 2 + 1) == a, "not %p", (void *)a);
    helix_block_statistics now = helix_block_usage();
    CHECK(now.reused - reused == 2 && now.taken - taken == 5, "%d reused of %d",
          (int)(now.reused - reused), (int)(now.taken - taken));
    unsigned char *c = helix_take_block(99999);
    CHECK(c != a && c != b, "used twice: %p", (void *)c);
    helix_give_block(c), helix_give_block(a), helix_give_block(b);
    helix_empty_cache();
    CHECK(helix_block_usage().in_use == class_size(SMALLEST * 4), "%zu bytes in use",
          helix_block_usage().in_use);
    helix_give_block(other);
}

static void statistics_add_up(void) {
    begin_case("statistics");
    size_t before = helix_block_usage().in_use;
    unsigned char *blocks[50];
    size_t sizes[50], in_use = before, cached = 0, most = helix_block_usage().peak;
    for (int i = 0; i < 50; i++) {
        sizes[i] = (size_t)any_below(1 << 20) + 1;
        blocks[i] = helix_take_block(sizes[i]);
        in_use += class_size(sizes[i]);
    }
    helix_block_statistics now = helix_block_usage();
    CHECK(now.in_use == in_use, "%zu in use, not %zu", now.in_use, in_use);
    CHECK(now.peak == (most > in_use ? most : in_use), "peak %zu", now.peak);
    for (int i = 0; i < 50; i++) {
        helix_give_block(blocks[i]);
        in_use -= class_size(sizes[i]), cached += class_size(sizes[i]);
        now = helix_block_usage();
        CHECK(now.in_use == in_use && now.cached == cached, "%zu in use, %zu cached; not %zu, %zu",
              now.in_use, now.cached, in_use, cached);
    }
    most = now.peak;
    helix_empty_cache();
    now = helix_block_usage();
    CHECK(now.cached == 0 && now.in_use == before && now.peak == most, "%zu cached, peak %zu",
          now.cached, now.peak);
}

static void the_budget_bounds_what_is_kept(void) {
    size_t size = class_size(1 << 17);
    void *blocks[4];
    for (size_t budget = 0; budget < 5 * size; budget += size / 2) {
        begin_case("a budget of %zu, blocks of %zu", budget, size);
        helix_empty_cache();
        helix_set_block_budget(budget);
        CHECK(helix_block_usage().budget == budget, "budget %zu", helix_block_usage().budget);
        for (int i = 0; i < 4; i++)
            blocks[i] = helix_take_block(1 << 17);
        for (int i = 0; i < 4; i++)
            helix_give_block(blocks[i]);
        size_t kept = budget / size < 4 ? budget / size : 4;
        CHECK(helix_block_usage().cached == kept * size, "%zu cached", helix_block_usage().cached);
    }
    begin_case("a smaller budget");
    CHECK(helix_block_usage().cached == 4 * size, "%zu cached", helix_block_usage().cached);
    helix_set_block_budget(size);
    CHECK(helix_block_usage().cached <= size, "%zu cached", helix_block_usage().cached);
    helix_set_block_budget(SIZE_MAX);
}

static void impossible_sizes_give_nothing(void) {
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2, SIZE_MAX / 4,
                                   SIZE_MAX / 4 + 1, SIZE_MAX / 8, (SIZE_MAX >> 2) - 5000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        begin_case("%zu bytes", sizes[i]);
        helix_block_statistics before = helix_block_usage();
        CHECK(helix_take_block(sizes[i]) == NULL, "%zu bytes were given", sizes[i]);
        helix_block_statistics after = helix_block_usage();
        CHECK(after.in_use == before.in_use && after.peak == before.peak &&
                  after.taken == before.taken,
              "%zu bytes in use", after.in_use);
    }
    begin_case("after impossible sizes");
    void *data = helix_take_block(1);
    CHECK(data != NULL, "%zu in use", helix_block_usage().in_use);
    helix_give_block(data);
}

/* Blocks begin at different places of a page, so that walking along several does not make them
   compete for the same lines of the cache. */
static void blocks_begin_at_different_places_of_a_page(void) {
    begin_case("places");
    int seen[PAGE / 64] = {0}, places = 0;
    void *blocks[16];
    for (int i = 0; i < 16; i++) {
        blocks[i] = helix_take_block((size_t)4 << 20); /* of memory that begins with a page */
        places += !seen[(uintptr_t)blocks[i] % PAGE / 64]++;
    }
    CHECK(places >= 8, "%d places", places);
    for (int i = 0; i < 16; i++)
        helix_give_block(blocks[i]);
    helix_empty_cache();
}

int main(void) {
    set_seed(2);
    sizes_are_rounded_up_to_classes();
    blocks_are_used_again_the_latest_first();
    statistics_add_up();
    the_budget_bounds_what_is_kept();
    impossible_sizes_give_nothing();
    blocks_begin_at_different_places_of_a_page();
    return exit_code();
}
