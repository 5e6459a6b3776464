/* Runs the tests of kernels: `kernels FAMILY ...`, all without arguments; `kernels --sets` prints
   the instruction sets that run here.

   Each family is a function, compiled once per dtype, that works through its cases with the kernels
   of one table. It is run with one thread and with three, with arrays that end at a page's end and
   that begin at its start, by one caller and by two at once; all must come to equal bits. */
#include "check.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define EACH_FAMILY(FAMILY)                                                                 \
    FAMILY(attention) FAMILY(conv) FAMILY(copy) FAMILY(fft_conv) FAMILY(gather)             \
    FAMILY(gemm) FAMILY(linear_scan) FAMILY(loss) FAMILY(mamba_step) FAMILY(map)            \
    FAMILY(norm) FAMILY(philox) FAMILY(scan) FAMILY(softmax) FAMILY(state_space_dual)       \
    FAMILY(sum) FAMILY(update)
#define DECLARE(name)                                                                       \
    void test_##name##_float(const helix_table *);                                          \
    void test_##name##_double(const helix_table *);
EACH_FAMILY(DECLARE)

typedef void (*family_test)(const helix_table *);
static const struct {
    const char *name;
    family_test tests[2];
} families[] = {
#define FAMILY(name) {#name, {test_##name##_float, test_##name##_double}},
    EACH_FAMILY(FAMILY)
};

/* The functions of simd.h are tested in each instruction set's own code. */
#define DECLARE_SIMD(isa)                                                                   \
    void helix_test_simd_##isa##_float(void);                                               \
    void helix_test_simd_##isa##_double(void);
#define SIMD(isa) {#isa, {helix_test_simd_##isa##_float, helix_test_simd_##isa##_double}},
DECLARE_SIMD(generic)
#ifdef HELIX_X86
DECLARE_SIMD(avx2)
DECLARE_SIMD(avx512)
#endif
static const struct {
    const char *name;
    void (*tests[2])(void);
} simd_tests[] = {
    SIMD(generic)
#ifdef HELIX_X86
    SIMD(avx2) SIMD(avx512)
#endif
};

#define COUNT(array) (sizeof array / sizeof *array)

typedef struct {
    const char *family, *set;
    family_test test;
    const helix_table *table;
    int threads, at_start;
    uint64_t digest;
} job;

static void *do_job(void *data) {
    job *j = data;
    threads = j->threads;
    at_start = j->at_start;
    set_seed(7);
    j->test(j->table);
    j->digest = digest;
    return NULL;
}

static void test_family(family_test test, const char *set, int is_double) {
    const helix_table *table = helix_kernels(set, is_double);
    job jobs[] = {{.threads = 1}, {.threads = 3}, {.threads = 2, .at_start = 1}};
    pthread_t ids[COUNT(jobs)];
    for (size_t i = 0; i < COUNT(jobs); i++) {
        jobs[i].test = test, jobs[i].table = table;
        helix_set_threads(jobs[i].threads);
        pthread_create(&ids[i], NULL, do_job, &jobs[i]);
        if (i == 0)
            pthread_join(ids[i], NULL);
    }
    /* The last two at once, while one of them has the pool. */
    for (size_t i = 1; i < COUNT(jobs); i++) {
        pthread_join(ids[i], NULL);
        begin_case("%s, %s", set, is_double ? "double" : "float");
        CHECK(jobs[i].digest == jobs[0].digest, "other bits with %d threads", jobs[i].threads);
    }
}

static int is_wanted(const char *name, int count, char **names) {
    for (int i = 1; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return 1;
    return count < 2;
}

int main(int count, char **names) {
    const char *const *sets = helix_instruction_sets();
    int done = 0;
    if (count > 1 && strcmp(names[1], "--sets") == 0) {
        for (; *sets; sets++)
            puts(*sets);
        return 0;
    }
#ifndef SANITIZED /* its own report is better */
    report_crashes();
#endif
    for (; *sets; sets++)
        for (int is_double = 0; is_double < 2; is_double++) {
            for (size_t i = 0; i < COUNT(simd_tests); i++)
                if (strcmp(simd_tests[i].name, *sets) == 0 && is_wanted("simd", count, names))
                    simd_tests[i].tests[is_double](), done++;
            for (size_t i = 0; i < COUNT(families); i++)
                if (is_wanted(families[i].name, count, names))
                    test_family(families[i].tests[is_double], *sets, is_double), done++;
        }
    if (!done)
        fprintf(stderr, "kernels.c: there is no such family\n");
    return done ? exit_code() : 2;
}
