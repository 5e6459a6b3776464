/* The function tables of all compiled instruction sets, and which of them this CPU can run.
   Compiled once, for the baseline; HELIX_X86 says that the x86 variants exist. */
#include "kernels.h"

#include <string.h>

#define DECLARE(name, variant) int helix_##name##_##variant(const void *, ptrdiff_t, ptrdiff_t);
#define ENTRY(name, variant) .name = helix_##name##_##variant,
#define TABLE(variant)                                                                      \
    HELIX_EACH_KERNEL(DECLARE, variant)                                                     \
    static const helix_table table_##variant = {HELIX_EACH_KERNEL(ENTRY, variant)};
#define INSTRUCTION_SET(isa) TABLE(isa##_float) TABLE(isa##_double)

INSTRUCTION_SET(generic)
#ifdef HELIX_X86
INSTRUCTION_SET(avx2)
INSTRUCTION_SET(avx512)
#endif

static const struct {
    const char *name;
    const helix_table *of_float, *of_double;
} tables[] = {
#ifdef HELIX_X86
    {"avx512", &table_avx512_float, &table_avx512_double},
    {"avx2", &table_avx2_float, &table_avx2_double},
#endif
    {"generic", &table_generic_float, &table_generic_double},
};

enum { TABLES = sizeof tables / sizeof *tables };

static int runs_here(const char *name) {
#ifdef HELIX_X86
    __builtin_cpu_init();
    if (strcmp(name, "avx512") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
    if (strcmp(name, "avx2") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return strcmp(name, "generic") == 0;
}

const char *const *helix_instruction_sets(void) {
    static const char *names[TABLES + 1];
    int count = 0;
    for (int i = 0; i < TABLES; i++)
        if (runs_here(tables[i].name))
            names[count++] = tables[i].name;
    names[count] = NULL;
    return names;
}

const helix_table *helix_kernels(const char *instruction_set, int is_double) {
    for (int i = 0; i < TABLES; i++)
        if (strcmp(tables[i].name, instruction_set) == 0)
            return is_double ? tables[i].of_double : tables[i].of_float;
    return NULL;
}

const char *const *helix_function_names(void) {
#define NAME(name) #name,
    static const char *const names[] = {HELIX_EACH_FUNCTION(NAME) NULL};
    return names;
}
