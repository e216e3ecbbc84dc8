#include "processors.h"

#include <string.h>

static const Processor *const PROCESSORS[] = {
#ifdef VIEWS_X86
    &PROCESSOR_AVX512,
    &PROCESSOR_AVX2,
#endif
    &PROCESSOR_BASELINE,
};

static int is_here(const Processor *processor) {
#ifdef VIEWS_X86
    if (processor == &PROCESSOR_AVX512) {
        return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("bmi2");
    }
    if (processor == &PROCESSOR_AVX2) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    }
#endif
    return processor == &PROCESSOR_BASELINE;
}

const Processor *processor_named(const char *name) {
    for (size_t i = 0; i < sizeof PROCESSORS / sizeof *PROCESSORS; i++) {
        if (is_here(PROCESSORS[i]) && (*name == 0 || strcmp(name, PROCESSORS[i]->name) == 0)) {
            return PROCESSORS[i];
        }
    }
    return NULL;
}
