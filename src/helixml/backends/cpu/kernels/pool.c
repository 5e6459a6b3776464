/* The pool: workers that take ranges of a round of work from a common counter.

   A round is announced in one word: its number, how many workers may help, whether it is still
   open, and how many workers are inside. A worker enters with a compare-and-swap that fails once
   the round is closed, so the caller, who closes it when no range is left, waits only for those
   who are inside, never for one that sleeps. Who has nothing to do spins for a while, then sleeps
   on a condition variable. Each flag of a sleeper is set before the word is read again, and the
   word written before the flag is read: one of both sides sees the other. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "pool.h"

#include <stdint.h>
#include <stdlib.h>

#if !defined(__unix__) && !defined(__APPLE__)
#define HELIX_NO_THREADS
#elif defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__)
#define HELIX_NO_THREADS
#endif

#ifdef HELIX_NO_THREADS

int helix_parallel_for(helix_work work, const void *call, ptrdiff_t items, ptrdiff_t grain) {
    (void)grain;
    return items > 0 ? work(call, 0, items) : 0;
}
void helix_set_threads(int threads) { (void)threads; }
int helix_pool_size(void) { return 0; }
static void free_at_exit(void *memory) { (void)memory; }

#else

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum { MOST_WORKERS = 255, STACK_BYTES = 1 << 22, SPIN_NANOSECONDS = 50000 };

/* The word that announces a round. */
#define INSIDE UINT64_C(0xFFFF)
#define OPEN UINT64_C(0x10000)
#define LIMIT_SHIFT 20
#define LIMIT UINT64_C(0xFFF)
#define ROUND_SHIFT 32

static struct {
    pthread_mutex_t use;    /* held by the caller whose round it is */
    pthread_mutex_t lock;   /* of the two conditions */
    pthread_cond_t opened, emptied;
    _Atomic uint64_t round;
    atomic_int sleepers, caller_sleeps;
    atomic_int wanted, size;

    /* The round's work; changed only while nobody is inside. */
    helix_work work;
    const void *call;
    ptrdiff_t items, grain, ranges;
    _Atomic ptrdiff_t next; /* range; may come to ranges + threads */
    atomic_int failure;
} pool = {
    .use = PTHREAD_MUTEX_INITIALIZER,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .opened = PTHREAD_COND_INITIALIZER,
    .emptied = PTHREAD_COND_INITIALIZER,
    .wanted = 1,
};

static _Thread_local int at_work; /* this thread does items of a round */

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void pause_briefly(void) {
    for (int i = 0; i < 32; i++) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#else
        atomic_signal_fence(memory_order_seq_cst);
#endif
    }
}

static void take_ranges(void) {
    for (;;) {
        ptrdiff_t range = atomic_fetch_add(&pool.next, 1);
        if (range >= pool.ranges || atomic_load(&pool.failure))
            return;
        ptrdiff_t first = range * pool.grain, rest = pool.items - first;
        int failure = pool.work(pool.call, first, first + (rest < pool.grain ? rest : pool.grain));
        if (failure)
            atomic_store(&pool.failure, failure);
    }
}

/* Workers */

static int may_enter(uint64_t round, uint64_t seen) {
    return (round & OPEN) && round >> ROUND_SHIFT != seen &&
           (round & INSIDE) < (round >> LIMIT_SHIFT & LIMIT);
}

/* Returns when there is a round that this worker may enter. */
static void wait_for_round(uint64_t seen) {
    for (int64_t end = now() + SPIN_NANOSECONDS; now() < end; pause_briefly())
        if (may_enter(atomic_load(&pool.round), seen))
            return;
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.sleepers, 1);
    while (!may_enter(atomic_load(&pool.round), seen))
        pthread_cond_wait(&pool.opened, &pool.lock);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.lock);
}

static void leave_round(void) {
    uint64_t left = atomic_fetch_sub(&pool.round, 1) - 1;
    if (!(left & OPEN) && !(left & INSIDE) && atomic_load(&pool.caller_sleeps)) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_signal(&pool.emptied);
        pthread_mutex_unlock(&pool.lock);
    }
}

static void *worker(void *nothing) {
    uint64_t seen = 0;
    at_work = 1;
    for (;;) {
        wait_for_round(seen);
        uint64_t round = atomic_load(&pool.round);
        while (may_enter(round, seen))
            if (atomic_compare_exchange_weak(&pool.round, &round, round + 1)) {
                seen = round >> ROUND_SHIFT;
                take_ranges();
                leave_round();
                break;
            }
    }
    return nothing;
}

/* In a forked child, which has none of its parent's threads. */
static void start_afresh(void) {
    pthread_mutex_init(&pool.use, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.opened, NULL);
    pthread_cond_init(&pool.emptied, NULL);
    atomic_store(&pool.round, 0);
    atomic_store(&pool.sleepers, 0);
    atomic_store(&pool.caller_sleeps, 0);
    atomic_store(&pool.size, 0);
    at_work = 0;
}

/* Starts workers until there are so many, or the system refuses one. */
static void start_workers(int workers) {
    static int follows_forks; /* guarded by pool.use */
    if (!follows_forks)
        follows_forks = pthread_atfork(NULL, NULL, start_afresh) == 0;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes))
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigset_t all, before; /* signals are for the interpreter's threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    while (atomic_load(&pool.size) < workers &&
           pthread_create(&thread, &attributes, worker, NULL) == 0)
        atomic_fetch_add(&pool.size, 1);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* Rounds */

static void open_round(int helpers) {
    uint64_t number = (atomic_load(&pool.round) >> ROUND_SHIFT) + 1;
    number = (uint32_t)number ? number : 1; /* workers have seen 0 from the start */
    atomic_store(&pool.round,
                 number << ROUND_SHIFT | (uint64_t)helpers << LIMIT_SHIFT | OPEN);
    if (atomic_load(&pool.sleepers)) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.opened);
        pthread_mutex_unlock(&pool.lock);
    }
}

/* Closes the round and waits until nobody is inside. */
static void close_round(void) {
    if (!(atomic_fetch_and(&pool.round, ~OPEN) & INSIDE))
        return;
    for (int64_t end = now() + SPIN_NANOSECONDS; now() < end; pause_briefly())
        if (!(atomic_load(&pool.round) & INSIDE))
            return;
    pthread_mutex_lock(&pool.lock);
    atomic_store(&pool.caller_sleeps, 1);
    while (atomic_load(&pool.round) & INSIDE)
        pthread_cond_wait(&pool.emptied, &pool.lock);
    atomic_store(&pool.caller_sleeps, 0);
    pthread_mutex_unlock(&pool.lock);
}

int helix_parallel_for(helix_work work, const void *call, ptrdiff_t items, ptrdiff_t grain) {
    if (items <= 0)
        return 0;
    grain = grain < 1 ? 1 : grain;
    ptrdiff_t ranges = (items - 1) / grain + 1, helpers = atomic_load(&pool.wanted);
    helpers = (ranges < helpers ? ranges : helpers) - 1;
    if (helpers < 1 || at_work || pthread_mutex_trylock(&pool.use))
        return work(call, 0, items);
    if (atomic_load(&pool.size) < helpers)
        start_workers((int)helpers);
    pool.work = work, pool.call = call;
    pool.items = items, pool.grain = grain, pool.ranges = ranges;
    atomic_store(&pool.next, 0);
    atomic_store(&pool.failure, 0);
    open_round((int)helpers);
    at_work = 1;
    take_ranges();
    at_work = 0;
    close_round();
    int failure = atomic_load(&pool.failure);
    pthread_mutex_unlock(&pool.use);
    return failure;
}

void helix_set_threads(int threads) {
    threads = threads < 1 ? 1 : threads;
    atomic_store(&pool.wanted, threads > MOST_WORKERS + 1 ? MOST_WORKERS + 1 : threads);
}

int helix_pool_size(void) { return atomic_load(&pool.size); }

/* Has `memory`, and nothing it was told before, freed when this thread ends. */
static pthread_key_t workspace_key;
static pthread_once_t workspace_once = PTHREAD_ONCE_INIT;
static void make_workspace_key(void) { pthread_key_create(&workspace_key, free); }

static void free_at_exit(void *memory) {
    pthread_once(&workspace_once, make_workspace_key);
    pthread_setspecific(workspace_key, memory);
}

#endif

void *helix_workspace(size_t bytes) {
    static _Thread_local void *workspace;
    static _Thread_local size_t size;
    enum { LINE = 64 };
    bytes += !bytes; /* NULL means that there is no memory */
    if (bytes > SIZE_MAX - LINE)
        return NULL;
    if (bytes > size) {
        free(workspace);
        size = (bytes + LINE - 1) / LINE * LINE;
        workspace = aligned_alloc(LINE, size);
        if (!workspace)
            size = 0;
        free_at_exit(workspace);
    }
    return workspace;
}
