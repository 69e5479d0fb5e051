/* Which vector instructions there are: some are chosen when the kernel runs, so that one binary serves every processor. */
#ifndef SEMID_VECTORS_H
#define SEMID_VECTORS_H

#if defined(__SSE2__)
#include <emmintrin.h>
#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#define HAS_AVX2 /* and AVX-512: whoever compiles one compiles the other */
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f")))
#define has_avx2() __builtin_cpu_supports("avx2")
#define has_avx512() __builtin_cpu_supports("avx512f")
#endif
#endif

#endif
