/* The parts of check.h that know no dtype. */
#ifdef __linux__
#define _GNU_SOURCE
#endif
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_FAILURES = 20, MOST_MAPPINGS = 128, PATTERN = 0xFF };

static atomic_int failures;
static _Thread_local char current[256] = "";

void check_failed(const char *file, int line, const char *condition, const char *format, ...) {
    char values[512];
    va_list rest;
    va_start(rest, format);
    vsnprintf(values, sizeof values, format, rest);
    va_end(rest);
    const char *name = strrchr(file, '/');
    fprintf(stderr, "%s:%d: %s: %s [%s]\n", name ? name + 1 : file, line, condition, values, current);
    if (atomic_fetch_add(&failures, 1) + 1 >= MOST_FAILURES)
        _exit(1);
}

void begin_case(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    vsnprintf(current, sizeof current, format, rest);
    va_end(rest);
}

static void on_crash(int signal_number) {
    static const char before[] = "crashed", in[] = " in the case ";
    ssize_t written = write(2, before, sizeof before - 1);
    if (current[0] && written > 0) { /* the pool's threads know none */
        written = write(2, in, sizeof in - 1);
        written = write(2, current, strlen(current));
    }
    written = write(2, "\n", 1);
    (void)written;
    signal(signal_number, SIG_DFL); /* and once more, which ends the program */
}

void report_crashes(void) {
    signal(SIGSEGV, on_crash);
    signal(SIGBUS, on_crash);
}

int exit_code(void) {
    return atomic_load(&failures) > 0;
}

/* Chance: splitmix64. */
static _Thread_local uint64_t state;

void set_seed(uint64_t seed) { state = seed; }

uint64_t any_bits(void) {
    uint64_t z = state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

ptrdiff_t any_below(ptrdiff_t end) { return (ptrdiff_t)(any_bits() % (uint64_t)end); }

wide any_between(wide low, wide high) {
    return low + (high - low) * ((wide)(any_bits() >> 11) * 0x1p-53L);
}

/* Guarded memory */
typedef struct {
    unsigned char *pages; /* one that may not be touched, the bytes' own, another */
    size_t inner, before, bytes;
} mapping;

static _Thread_local mapping mappings[MOST_MAPPINGS];
static _Thread_local int mapped;
_Thread_local int at_start;

void *guarded(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    mapping m = {.inner = (bytes + page - 1) / page * page, .bytes = bytes};
    m.before = at_start ? 0 : m.inner - bytes;
    m.pages = mmap(NULL, m.inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m.pages == MAP_FAILED || mapped == MOST_MAPPINGS ||
        (m.inner && mprotect(m.pages + page, m.inner, PROT_READ | PROT_WRITE))) {
        fprintf(stderr, "check.c: no memory for a guarded array of %zu bytes\n", bytes);
        _exit(2);
    }
    memset(m.pages + page, PATTERN, m.inner);
    mappings[mapped++] = m;
    return m.pages + page + m.before;
}

void free_guarded(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    while (mapped) {
        mapping m = mappings[--mapped];
        for (size_t i = 0; i < m.inner; i++)
            if (i < m.before || i >= m.before + m.bytes)
                CHECK(m.pages[page + i] == PATTERN, "byte %td of an array of %zu was written",
                      (ptrdiff_t)(i - m.before), m.bytes);
        munmap(m.pages, m.inner + 2 * page);
    }
}

static _Thread_local void *scratches[MOST_MAPPINGS];
static _Thread_local int scratched;

void *scratch(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory || scratched == MOST_MAPPINGS) {
        fprintf(stderr, "check.c: no memory for %zu bytes\n", bytes);
        _exit(2);
    }
    return scratches[scratched++] = memory;
}

void free_arrays(void) {
    free_guarded();
    while (scratched)
        free(scratches[--scratched]);
}

/* Running kernels */
typedef struct {
    helix_work work;
    const void *call;
    ptrdiff_t items, grain;
    int failure;
    const char *name;
} task;

static void *run_task(void *data) {
    task *t = data;
    begin_case("%s", t->name);
    t->failure = helix_parallel_for(t->work, t->call, t->items, t->grain);
    return NULL;
}

_Thread_local int threads = 1;

int run(helix_work work, const void *call, ptrdiff_t items) {
    task t = {work, call, items, threads > 1 ? 1 : items, 0, current};
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_task, &t)) {
        fprintf(stderr, "check.c: no thread\n");
        _exit(2);
    }
    pthread_join(thread, NULL);
    return t.failure;
}

_Thread_local uint64_t digest;

/* FNV-1a, eight bytes at a time where there are eight. */
void digest_bytes(const void *bytes, size_t count) {
    const unsigned char *from = bytes;
    for (size_t i = 0; i < count;) {
        uint64_t word = 0;
        size_t size = count - i < sizeof word ? count - i : sizeof word;
        memcpy(&word, from + i, size);
        digest = (digest ^ word) * UINT64_C(0x100000001B3);
        digest ^= digest >> 29;
        i += size;
    }
}
