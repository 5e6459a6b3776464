/* Memory of large arrays, kept for the next array of about the size. */
#ifndef HELIX_BLOCKS_H
#define HELIX_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

enum { HELIX_SMALLEST_BLOCK = 1 << 16 };

/* All in bytes; `peak` is the most that was ever in use at once. */
typedef struct {
    size_t in_use, peak, cached, budget;
    uint64_t taken, reused; /* blocks handed out, and how many of these came from the cache */
} helix_block_statistics;

/* Memory for at least so many bytes, aligned to 64; NULL where the system has none. */
void *helix_take_block(size_t bytes);

/* Gives back what helix_take_block returned: to the cache, or to the system beyond the budget. */
void helix_give_block(void *data);

/* Returns all cached memory to the system. */
void helix_empty_cache(void);

/* Keeps at most so many bytes that are not in use. */
void helix_set_block_budget(size_t bytes);

helix_block_statistics helix_block_usage(void);

#endif
