/* Which vector instructions there are: some are chosen when the kernel runs, so that one binary serves every processor.
 * To test the code for others, build with a smaller WIDEST_VECTOR: 32 bytes (AVX2), 16 (SSE2) or 0 (none). */
#ifndef SEMID_VECTORS_H
#define SEMID_VECTORS_H

#if !defined(WIDEST_VECTOR)
#define WIDEST_VECTOR 64
#endif

#if defined(__SSE2__) && WIDEST_VECTOR >= 16
#include <emmintrin.h>
#define HAS_SSE2
#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#define HAS_AVX2 /* and AVX-512: whoever compiles one compiles the other */
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f")))
#define has_avx2() (WIDEST_VECTOR >= 32 && __builtin_cpu_supports("avx2"))
#define has_avx512() (WIDEST_VECTOR >= 64 && __builtin_cpu_supports("avx512f"))
#endif
#endif

#endif
