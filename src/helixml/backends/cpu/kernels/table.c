/* The function tables of all compiled instruction sets, and which of them this CPU can run.
   Compiled once, for the baseline; HELIX_X86 says that the x86 variants exist. */
#include "kernels.h"

#include <string.h>

#define DECLARE_KERNEL(name, of, isa, real)                                                 \
    int helix_##name##_##isa##_##real(const helix_##of *, ptrdiff_t, ptrdiff_t);

#define DECLARE(isa, real)                                                                  \
    DECLARE_KERNEL(scan_forward, scan, isa, real)                                           \
    DECLARE_KERNEL(scan_backward, scan, isa, real)                                          \
    DECLARE_KERNEL(conv_forward, conv, isa, real)                                           \
    DECLARE_KERNEL(conv_backward, conv, isa, real)                                          \
    DECLARE_KERNEL(norm_forward, norm, isa, real)                                           \
    DECLARE_KERNEL(norm_backward, norm, isa, real)                                          \
    DECLARE_KERNEL(loss_forward, loss, isa, real)                                           \
    DECLARE_KERNEL(loss_backward, loss, isa, real)                                          \
    DECLARE_KERNEL(adamw, adamw, isa, real)                                                 \
    DECLARE_KERNEL(gemm_pack, gemm, isa, real)                                              \
    DECLARE_KERNEL(gemm, gemm, isa, real)                                                   \
    DECLARE_KERNEL(gemv, gemm, isa, real)                                                   \
    static const helix_table table_##isa##_##real = {                                       \
        .scan_forward = helix_scan_forward_##isa##_##real,                                  \
        .scan_backward = helix_scan_backward_##isa##_##real,                                \
        .conv_forward = helix_conv_forward_##isa##_##real,                                  \
        .conv_backward = helix_conv_backward_##isa##_##real,                                \
        .norm_forward = helix_norm_forward_##isa##_##real,                                  \
        .norm_backward = helix_norm_backward_##isa##_##real,                                \
        .loss_forward = helix_loss_forward_##isa##_##real,                                  \
        .loss_backward = helix_loss_backward_##isa##_##real,                                \
        .adamw = helix_adamw_##isa##_##real,                                                \
        .gemm_pack = helix_gemm_pack_##isa##_##real,                                        \
        .gemm = helix_gemm_##isa##_##real,                                                  \
        .gemv = helix_gemv_##isa##_##real,                                                  \
    };

#define INSTRUCTION_SET(isa) DECLARE(isa, float) DECLARE(isa, double)

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
