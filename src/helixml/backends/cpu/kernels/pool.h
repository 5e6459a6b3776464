/* One pool of threads for all kernels. */
#ifndef HELIX_POOL_H
#define HELIX_POOL_H

#include <stddef.h>

/* Does items first .. last - 1 of a call; returns 0 or what failed. */
typedef int (*helix_work)(const void *call, ptrdiff_t first, ptrdiff_t last);

/* Does items 0 .. items - 1, each once: in ranges of at most `grain`, in any order, on the calling
   thread and on those of the pool; or in one range on the calling thread, where an item of work
   calls it, while another thread has the pool, and where there are no others. Returns 0 or what
   failed in one of them; then some ranges may be left undone. */
int helix_parallel_for(helix_work work, const void *call, ptrdiff_t items, ptrdiff_t grain);

/* How many threads a call may use, the calling one included; 1 at first. */
void helix_set_threads(int threads);

/* How many threads of the pool are running. */
int helix_pool_size(void);

/* The calling thread's own memory of at least so many bytes, aligned to 64: kept from call to
   call, with whatever was written there, until the thread ends. NULL where the system has none. */
void *helix_workspace(size_t bytes);

#endif
