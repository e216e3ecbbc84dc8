/* The same pixel code for processors with AVX-512 (x86-64-v4). */
#include "view.h"
#ifdef VIEWS_X86
#ifdef __clang__
/* Clang accepts prefer-vector-width only on its command line; in this list it would make Clang ignore all of it. */
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,bmi,bmi2,lzcnt,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,bmi,bmi2,lzcnt,popcnt,prefer-vector-width=512")
#endif
#define VIEWS_AVX512 1
#define PROCESSOR PROCESSOR_AVX512
#define PROCESSOR_NAME "avx512"
#include "kernels/all.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
