/* A cache of memory blocks by size class, four classes to an octave.

   Fresh memory costs a page fault for every 4 KiB, which takes longer than most kernels need for
   them; a training step asks for the same sizes again and again. So a block that is given back
   goes on its class's list and is handed out again, the latest first. In front of a block's bytes
   is its header. Where a block starts within a page changes from block to block: if all started
   alike, a kernel that walks along several of them would find them competing for the same lines
   of the cache. Callers hold the interpreter's lock; there is no other. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "blocks.h"

#include <stdlib.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

enum { LINE = 64, PAGE = 4096, STARTS = 16, HUGE_PAGE = 1 << 21, CLASSES = 4 * 64 };

typedef struct block {
    struct block *next; /* in the list of its class */
    void *memory;       /* what malloc gave */
    size_t bytes;
    int class;
} block;

_Static_assert(sizeof(block) <= LINE, "the header must fit in front of the bytes");

static block *lists[CLASSES];
static helix_block_statistics usage = {.budget = SIZE_MAX};
static unsigned starts;

/* The class of a size: bytes is rounded up to 4, 5, 6 or 7 quarters of a power of two. */
static int class_of(size_t bytes, size_t *rounded) {
    int shift = 0;
    while ((bytes - 1) >> shift > 7)
        shift++;
    size_t quarters = ((bytes - 1) >> shift) + 1; /* 5 .. 8 */
    *rounded = quarters << shift;
    return shift * 4 + (int)(quarters - 5);
}

static block *new_block(int class, size_t bytes) {
    size_t whole = bytes + PAGE + LINE, alignment = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : LINE;
    if (whole < bytes)
        return NULL;
    void *memory = aligned_alloc(alignment, (whole + alignment - 1) / alignment * alignment);
    if (!memory)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (alignment == HUGE_PAGE)
        madvise(memory, whole, MADV_HUGEPAGE);
#endif
    size_t start = LINE + starts++ % STARTS * (PAGE / STARTS);
    block *made = (block *)((char *)memory + start - LINE);
    *made = (block){NULL, memory, bytes, class};
    return made;
}

void *helix_take_block(size_t bytes) {
    size_t rounded;
    if (bytes < HELIX_SMALLEST_BLOCK)
        bytes = HELIX_SMALLEST_BLOCK;
    if (bytes > SIZE_MAX / 4)
        return NULL;
    int class = class_of(bytes, &rounded);
    block *taken = lists[class];
    if (taken) {
        lists[class] = taken->next;
        usage.cached -= rounded;
        usage.reused++;
    } else if (!(taken = new_block(class, rounded))) {
        helix_empty_cache();
        taken = new_block(class, rounded);
    }
    if (taken) {
        usage.taken++;
        usage.in_use += rounded;
        if (usage.in_use > usage.peak)
            usage.peak = usage.in_use;
    }
    return taken ? (char *)taken + LINE : NULL;
}

void helix_give_block(void *data) {
    block *given = (block *)((char *)data - LINE);
    usage.in_use -= given->bytes;
    if (usage.cached + given->bytes <= usage.budget) {
        usage.cached += given->bytes;
        given->next = lists[given->class];
        lists[given->class] = given;
    } else {
        free(given->memory);
    }
}

void helix_empty_cache(void) {
    for (int class = 0; class < CLASSES; class++) {
        block *list = lists[class];
        lists[class] = NULL;
        for (block *each = list; each; each = each->next)
            usage.cached -= each->bytes;
        while (list) {
            block *next = list->next;
            free(list->memory);
            list = next;
        }
    }
}

void helix_set_block_budget(size_t bytes) {
    usage.budget = bytes;
    if (usage.cached > bytes)
        helix_empty_cache();
}

helix_block_statistics helix_block_usage(void) {
    return usage;
}
