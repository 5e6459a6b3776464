/* Tests of the pool of threads. ROUNDS scales how often small rounds are repeated; NO_FORK leaves
   out what forks, for ThreadSanitizer, which does not follow a program with several threads.

   That threads really help is seen by items that wait for each other: they would wait for ever if
   a wake-up got lost, so there is a limit, and whoever runs into it failed. */
#ifdef __linux__
#define _GNU_SOURCE
#endif
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef ROUNDS
#define ROUNDS 20000
#endif

enum { MOST_ITEMS = 5000, PATIENCE = 60 /* seconds */ };

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void sleep_for(long nanoseconds) {
    struct timespec t = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    nanosleep(&t, NULL);
}

/* Items that count how often they are done, and by how many threads. */
typedef struct {
    atomic_int done[MOST_ITEMS];
    ptrdiff_t items;
    _Atomic ptrdiff_t longest;
    atomic_int threads;
    pthread_mutex_t lock;
    pthread_t who[64];
} tally;

static void begin_tally(tally *t, ptrdiff_t items) {
    memset(t, 0, sizeof *t);
    t->items = items;
    pthread_mutex_init(&t->lock, NULL);
}

static int count_items(const void *call, ptrdiff_t first, ptrdiff_t last) {
    tally *t = *(tally *const *)call;
    if (first < 0 || last > t->items || first >= last) {
        CHECK(0, "range %td .. %td of %td", first, last, t->items);
        return 0;
    }
    for (ptrdiff_t i = first; i < last; i++)
        atomic_fetch_add(&t->done[i], 1);
    ptrdiff_t longest = atomic_load(&t->longest);
    while (last - first > longest &&
           !atomic_compare_exchange_weak(&t->longest, &longest, last - first)) {
    }
    pthread_mutex_lock(&t->lock);
    int known = 0, count = atomic_load(&t->threads);
    for (int i = 0; i < count; i++)
        known |= pthread_equal(t->who[i], pthread_self());
    if (!known && count < 64) {
        t->who[count] = pthread_self();
        atomic_store(&t->threads, count + 1);
    }
    pthread_mutex_unlock(&t->lock);
    return 0;
}

static void check_once(tally *t) {
    for (ptrdiff_t i = 0; i < t->items; i++)
        CHECK(atomic_load(&t->done[i]) == 1, "item %td of %td was done %d times", i, t->items,
              atomic_load(&t->done[i]));
    pthread_mutex_destroy(&t->lock);
}

static void do_round(ptrdiff_t items, ptrdiff_t grain, int threads) {
    tally t, *pointer = &t;
    begin_tally(&t, items);
    int failure = helix_parallel_for(count_items, &pointer, items, grain);
    CHECK(failure == 0, "failure %d", failure);
    CHECK(atomic_load(&t.threads) <= threads, "%d threads took part", atomic_load(&t.threads));
    ptrdiff_t most = grain < 1 ? 1 : grain;
    CHECK(threads == 1 || atomic_load(&t.longest) <= most, "a range of %td items, grain %td",
          atomic_load(&t.longest), grain);
    check_once(&t);
}

static void every_item_is_done_once(void) {
    static const int threads[] = {1, 2, 3, 5};
    static const ptrdiff_t items[] = {0, 1, 2, 3, 7, 64, 1000, 4097};
    static const ptrdiff_t grains[] = {-1, 0, 1, 2, 3, 64, 4097, 1 << 20};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++)
        for (size_t j = 0; j < sizeof items / sizeof *items; j++)
            for (size_t k = 0; k < sizeof grains / sizeof *grains; k++) {
                begin_case("%d threads, %td items, grain %td", threads[i], items[j], grains[k]);
                helix_set_threads(threads[i]);
                do_round(items[j], grains[k], threads[i]);
            }
    helix_set_threads(2);
    begin_case("no items");
    CHECK(helix_parallel_for(count_items, NULL, -5, 1) == 0, "less than no items");
}

/* Ranges may be so large that adding one more to the last would overflow. */
static int count_ranges(const void *call, ptrdiff_t first, ptrdiff_t last) {
    _Atomic ptrdiff_t *total = *(_Atomic ptrdiff_t *const *)call;
    CHECK(0 <= first && first < last, "range %td .. %td", first, last);
    atomic_fetch_add(total, last - first);
    return 0;
}

static void huge_numbers_of_items_do_not_overflow(void) {
    for (int threads = 1; threads <= 4; threads++)
        for (ptrdiff_t part = 1; part < 6; part++) {
            begin_case("%d threads, as many items as there may be, in %td ranges", threads, part);
            _Atomic ptrdiff_t total = 0, *pointer = &total;
            helix_set_threads(threads);
            helix_parallel_for(count_ranges, &pointer, PTRDIFF_MAX, PTRDIFF_MAX / part);
            CHECK(total == PTRDIFF_MAX, "%td items done", total);
        }
}

/* Items that end when all of them have begun. */
typedef struct {
    int expected;
    atomic_int present, late;
} meeting;

static int meet(const void *call, ptrdiff_t first, ptrdiff_t last) {
    meeting *m = *(meeting *const *)call;
    atomic_fetch_add(&m->present, (int)(last - first));
    double end = seconds() + PATIENCE;
    while (atomic_load(&m->present) < m->expected && !atomic_load(&m->late)) {
        sched_yield();
        if (seconds() > end)
            atomic_store(&m->late, 1);
    }
    return 0;
}

static void check_meeting(int threads) {
    meeting m = {.expected = threads}, *pointer = &m;
    helix_parallel_for(meet, &pointer, threads, 1);
    CHECK(!atomic_load(&m.late), "only %d of %d threads came", atomic_load(&m.present), threads);
}

static void threads_help_awake_and_asleep(void) {
    for (int threads = 2; threads <= 4; threads++) {
        begin_case("%d threads meet", threads);
        helix_set_threads(threads);
        check_meeting(threads);
        CHECK(helix_pool_size() >= threads - 1, "the pool has %d threads", helix_pool_size());
        sleep_for(100000000); /* certainly asleep */
        check_meeting(threads);
        check_meeting(threads);
    }
    /* Workers fall asleep after 50 microseconds: meet them before, after and while they do. */
    helix_set_threads(2);
    for (int i = 0; i < ROUNDS / 20; i++) {
        long nap = (long)any_below(150000);
        begin_case("round %d of naps, after %ld ns", i, nap);
        for (double end = seconds() + 1e-9 * (double)nap; seconds() < end;) {
        }
        check_meeting(2);
    }
}

/* Plain, not atomic: items are done once, and the round's end is seen by the caller. */
static int add_one(const void *call, ptrdiff_t first, ptrdiff_t last) {
    int *sums = *(int *const *)call;
    for (ptrdiff_t i = first; i < last; i++)
        sums[i]++;
    return 0;
}

static void tiny_rounds_follow_each_other(void) {
    for (int threads = 2; threads <= 3; threads++) {
        helix_set_threads(threads);
        begin_case("%d tiny rounds, %d threads", ROUNDS, threads);
        for (int i = 0; i < ROUNDS; i++) {
            ptrdiff_t items = 2 + i % 7;
            int sums[9] = {0}, *pointer = sums;
            int failure = helix_parallel_for(add_one, &pointer, items, 1 + i % 2);
            int sum = 0;
            for (int j = 0; j < 9; j++)
                sum += sums[j];
            if (failure || sum != items) {
                CHECK(0, "round %d: %d of %td items done, failure %d", i, sum, items, failure);
                return;
            }
        }
    }
}

static void the_number_of_threads_changes_between_rounds(void) {
    for (int i = 0; i < ROUNDS / 20; i++) {
        int threads = 1 + (int)any_below(6);
        begin_case("round %d, now %d threads", i, threads);
        helix_set_threads(threads);
        do_round(1 + any_below(40), 1 + any_below(3), threads);
    }
    CHECK(helix_pool_size() <= 5, "the pool has %d threads", helix_pool_size());
    static const int odd[] = {-7, 0, 1};
    for (int i = 0; i < 3; i++) {
        begin_case("%d threads", odd[i]);
        helix_set_threads(odd[i]);
        do_round(10, 1, 1);
    }
}

/* Items that use the pool themselves. */
typedef struct {
    pthread_t outer;
    atomic_int elsewhere, done;
} inner_call;

static int inner(const void *call, ptrdiff_t first, ptrdiff_t last) {
    inner_call *c = *(inner_call *const *)call;
    atomic_fetch_add(&c->done, (int)(last - first));
    if (!pthread_equal(c->outer, pthread_self()))
        atomic_fetch_add(&c->elsewhere, 1);
    return 0;
}

static int outer(const void *call, ptrdiff_t first, ptrdiff_t last) {
    (void)call;
    for (ptrdiff_t i = first; i < last; i++) {
        inner_call c = {.outer = pthread_self()}, *pointer = &c;
        CHECK(helix_parallel_for(inner, &pointer, 100, 3) == 0, "inner call of item %td", i);
        CHECK(c.done == 100, "%d inner items done", c.done);
        CHECK(c.elsewhere == 0, "%d inner ranges on another thread", c.elsewhere);
    }
    return 0;
}

static void nested_calls_stay_on_their_thread(void) {
    begin_case("nested calls");
    helix_set_threads(3);
    for (int i = 0; i < ROUNDS / 200; i++)
        CHECK(helix_parallel_for(outer, NULL, 20, 1) == 0, "round %d", i);
}

static int fail_at(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t *where = call;
    return first <= *where && *where < last ? 42 : 0;
}

static int fail_always(const void *call, ptrdiff_t first, ptrdiff_t last) {
    (void)call, (void)first, (void)last;
    return 7;
}

static void failures_are_returned(void) {
    for (int threads = 1; threads <= 3; threads++) {
        helix_set_threads(threads);
        for (ptrdiff_t where = 0; where < 33; where++) {
            begin_case("%d threads, item %td fails", threads, where);
            int failure = helix_parallel_for(fail_at, &where, 33, 2);
            CHECK(failure == 42, "returned %d", failure);
        }
        begin_case("%d threads, all items fail", threads);
        int failure = helix_parallel_for(fail_always, NULL, 33, 2);
        CHECK(failure == 7, "returned %d", failure);
        do_round(33, 2, threads);
    }
}

/* Several callers at once */
static void *call_often(void *data) {
    set_seed(*(uint64_t *)data);
    begin_case("caller %d", (int)*(uint64_t *)data);
    for (int i = 0; i < ROUNDS / 20; i++) {
        ptrdiff_t where = any_below(50);
        if (i % 5 == 0) {
            int failure = helix_parallel_for(fail_at, &where, 50, 3);
            CHECK(failure == 42, "returned %d", failure);
        }
        tally t, *pointer = &t;
        begin_tally(&t, 1 + any_below(50));
        CHECK(helix_parallel_for(count_items, &pointer, t.items, 1) == 0, "round %d", i);
        check_once(&t);
    }
    return NULL;
}

static void several_threads_call_at_once(void) {
    helix_set_threads(3);
    for (int callers = 2; callers <= 4; callers++) {
        pthread_t ids[4];
        uint64_t seeds[4] = {1, 2, 3, 4};
        for (int i = 0; i < callers; i++)
            pthread_create(&ids[i], NULL, call_often, &seeds[i]);
        for (int i = 0; i < callers; i++)
            pthread_join(ids[i], NULL);
    }
}

/* Each thread has memory of its own. */
static void *use_workspace(void *data) {
    ptrdiff_t seed = *(int *)data;
    begin_case("workspace of thread %td", seed);
    unsigned char *empty = helix_workspace(0);
    CHECK(empty != NULL, "no workspace of %d bytes", 0);
    for (size_t bytes = 1; bytes < 100000; bytes = bytes * 3 + 1) {
        unsigned char *memory = helix_workspace(bytes);
        CHECK(memory && (uintptr_t)memory % 64 == 0, "%zu bytes at %p", bytes, (void *)memory);
        memset(memory, (int)seed, bytes);
        sched_yield();
        unsigned char *smaller = helix_workspace(bytes / 2);
        CHECK(smaller == memory, "%zu bytes at %p, then half at %p", bytes, (void *)memory,
              (void *)smaller);
        for (size_t i = 0; i < bytes; i++)
            if (memory[i] != seed) {
                CHECK(0, "byte %zu of %zu is %d", i, bytes, memory[i]);
                break;
            }
    }
    static const size_t impossible[] = {SIZE_MAX, SIZE_MAX - 63, SIZE_MAX - 64, SIZE_MAX / 2};
    for (int i = 0; i < 4; i++)
        CHECK(helix_workspace(impossible[i]) == NULL, "%zu bytes were given", impossible[i]);
    unsigned char *after = helix_workspace(100);
    CHECK(after != NULL, "none after %s", "an impossible one");
    memset(after, 1, 100);
    return NULL;
}

static void threads_have_workspaces_of_their_own(void) {
    pthread_t ids[3];
    int seeds[3] = {1, 2, 3};
    for (int i = 0; i < 3; i++)
        pthread_create(&ids[i], NULL, use_workspace, &seeds[i]);
    for (int i = 0; i < 3; i++)
        pthread_join(ids[i], NULL);
}

#ifndef NO_FORK
static void use_everything(int threads) {
    helix_set_threads(threads);
    do_round(1000, 3, threads);
    check_meeting(threads);
}

/* Forks a child that forks another, until `generations` are done; all of them use the pool. */
static void fork_and_use(int generations) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(PATIENCE);
        begin_case("%d forks to go, in the child", generations);
        CHECK(helix_pool_size() == 0, "the pool has %d threads", helix_pool_size());
        use_everything(2);
        use_everything(4);
        if (generations > 1)
            fork_and_use(generations - 1);
        _exit(exit_code());
    }
    int status;
    waitpid(child, &status, 0);
    begin_case("%d forks to go, in the parent", generations);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status %d", status);
}

static atomic_int stop;

static void *call_until_stopped(void *nothing) {
    begin_case("calls while another thread forks");
    while (!atomic_load(&stop)) {
        tally t, *pointer = &t;
        begin_tally(&t, 40);
        CHECK(helix_parallel_for(count_items, &pointer, t.items, 1) == 0, "%d threads", 3);
        check_once(&t);
    }
    return nothing;
}

static void the_pool_works_after_a_fork(void) {
    helix_set_threads(3);
    check_meeting(3);
    fork_and_use(3);
    use_everything(3);
    sleep_for(10000000);
    fork_and_use(1); /* while the workers sleep */
    use_everything(4);
    helix_set_threads(3);
    pthread_t id;
    pthread_create(&id, NULL, call_until_stopped, NULL);
    for (int i = 0; i < 10; i++)
        fork_and_use(1); /* while a round is going on, now and then */
    atomic_store(&stop, 1);
    pthread_join(id, NULL);
    use_everything(3);
}
#endif

int main(void) {
    set_seed(1);
    begin_case("before the first round");
    CHECK(helix_pool_size() == 0, "the pool has %d threads", helix_pool_size());
    do_round(10, 1, 1);
    CHECK(helix_pool_size() == 0, "one thread is the caller's own, the pool has %d",
          helix_pool_size());
    the_number_of_threads_changes_between_rounds();
    every_item_is_done_once();
    huge_numbers_of_items_do_not_overflow();
    threads_help_awake_and_asleep();
    tiny_rounds_follow_each_other();
    nested_calls_stay_on_their_thread();
    failures_are_returned();
    several_threads_call_at_once();
    threads_have_workspaces_of_their_own();
#ifndef NO_FORK
    the_pool_works_after_a_fork();
#endif
    return exit_code();
}
