/* The same pixel code for processors with AVX2 (x86-64-v3). */
#include "view.h"
#ifdef VIEWS_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx2,bmi,bmi2,lzcnt,popcnt")
#endif
#define VIEWS_AVX2 1
#define PROCESSOR PROCESSOR_AVX2
#define PROCESSOR_NAME "avx2"
#include "kernels/all.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
