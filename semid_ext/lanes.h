/* Scores by the group: the largest of each lane, and which of a group reach a threshold. */
#ifndef SEMID_LANES_H
#define SEMID_LANES_H

#include <stdint.h>
#include <string.h>

#include "nodes.h"
#include "vectors.h"

/* Neighbouring scores that are looked at together. */
enum { GROUP = 16 };
/* Bytes between what is read and what is fetched: the processor's own fetching stops at each page. */
enum { AHEAD = 4096 };

/* Raise each of GROUP lanes to the largest of every GROUP-th of n scores; what is not a number raises none. */
INLINED void
raise_lanes_from(int64_t first, float *lanes, const float *log_probs, float base, int64_t n)
{
    for (; first < n; first++) {
        const float score = base + log_probs[first];
        float *lane = lanes + first % GROUP;
        *lane = score > *lane ? score : *lane;
    }
}

/* Write which of the scores from `first` on reach the threshold behind the n_reached positions written so far. */
INLINED int64_t
list_reaching_from(int64_t first, const float *log_probs, float base, float threshold, int64_t n, uint32_t *reached,
                   int64_t n_reached)
{
    for (; first < n; first++) {
        reached[n_reached] = (uint32_t)first;
        n_reached += base + log_probs[first] >= threshold;
    }
    return n_reached;
}

#if defined(HAS_AVX2)
__attribute__((target("avx2"))) static inline void
raise_lanes_avx2(float *lanes, const float *log_probs, float base, int64_t n)
{
    const __m256 bases = _mm256_set1_ps(base);
    __m256 a = _mm256_loadu_ps(lanes), b = _mm256_loadu_ps(lanes + 8);
    int64_t first = 0;
    for (; first + GROUP <= n; first += GROUP) { /* the maximum returns its second operand where one is no number */
        PREFETCH((const char *)(log_probs + first) + AHEAD);
        a = _mm256_max_ps(_mm256_add_ps(bases, _mm256_loadu_ps(log_probs + first)), a);
        b = _mm256_max_ps(_mm256_add_ps(bases, _mm256_loadu_ps(log_probs + first + 8)), b);
    }
    _mm256_storeu_ps(lanes, a);
    _mm256_storeu_ps(lanes + 8, b);
    raise_lanes_from(first, lanes, log_probs, base, n);
}

__attribute__((target("avx2"))) static inline int64_t
list_reaching_avx2(const float *log_probs, float base, float threshold, int64_t n, uint32_t *reached)
{
    const __m256 bases = _mm256_set1_ps(base), least = _mm256_set1_ps(threshold);
    int64_t first = 0, n_reached = 0;
    for (; first + 32 <= n; first += 32) {
        __m256 reach[4];
        for (int at = 0; at < 4; at++)
            reach[at] = _mm256_cmp_ps(_mm256_add_ps(bases, _mm256_loadu_ps(log_probs + first + 8 * at)), least,
                                      _CMP_GE_OQ);
        const __m256 any = _mm256_or_ps(_mm256_or_ps(reach[0], reach[1]), _mm256_or_ps(reach[2], reach[3]));
        if (_mm256_testz_si256(_mm256_castps_si256(any), _mm256_castps_si256(any)))
            continue;
        unsigned bits = 0;
        for (int at = 0; at < 4; at++)
            bits |= (unsigned)_mm256_movemask_ps(reach[at]) << 8 * at;
        for (; bits; bits &= bits - 1)
            reached[n_reached++] = (uint32_t)(first + lowest_bit(bits));
    }
    return list_reaching_from(first, log_probs, base, threshold, n, reached, n_reached);
}
#endif

/* Raise GROUP lanes. */
INLINED void
raise_lanes(float *lanes, const float *log_probs, float base, int64_t n)
{
    int64_t first = 0;
#if defined(HAS_AVX2)
    if (has_avx2()) {
        raise_lanes_avx2(lanes, log_probs, base, n);
        return;
    }
#endif
#if defined(__SSE2__)
    const __m128 bases = _mm_set1_ps(base);
    __m128 lane[4];
    for (int at = 0; at < 4; at++)
        lane[at] = _mm_loadu_ps(lanes + 4 * at);
    for (; first + GROUP <= n; first += GROUP)
        for (int at = 0; at < 4; at++)
            lane[at] = _mm_max_ps(_mm_add_ps(bases, _mm_loadu_ps(log_probs + first + 4 * at)), lane[at]);
    for (int at = 0; at < 4; at++)
        _mm_storeu_ps(lanes + 4 * at, lane[at]);
#endif
    raise_lanes_from(first, lanes, log_probs, base, n);
}

/* Write the positions of the scores that reach the threshold, in order, and return how many they are; `reached` has
 * room for all n and one more. */
INLINED int64_t
list_reaching(const float *log_probs, float base, float threshold, int64_t n, uint32_t *reached)
{
    int64_t first = 0, n_reached = 0;
#if defined(HAS_AVX2)
    if (has_avx2())
        return list_reaching_avx2(log_probs, base, threshold, n, reached);
#endif
#if defined(__SSE2__)
    const __m128 bases = _mm_set1_ps(base), least = _mm_set1_ps(threshold);
    for (; first + GROUP <= n; first += GROUP) {
        __m128i reach[4];
        for (int at = 0; at < 4; at++)
            reach[at] = _mm_castps_si128(
                _mm_cmpge_ps(_mm_add_ps(bases, _mm_loadu_ps(log_probs + first + 4 * at)), least));
        unsigned bits = (unsigned)_mm_movemask_epi8(
            _mm_packs_epi16(_mm_packs_epi32(reach[0], reach[1]), _mm_packs_epi32(reach[2], reach[3])));
        for (; bits; bits &= bits - 1)
            reached[n_reached++] = (uint32_t)(first + lowest_bit(bits));
    }
#endif
    return list_reaching_from(first, log_probs, base, threshold, n, reached, n_reached);
}

/* The scores as integers in the same order, and back; they are overwritten. */
INLINED int32_t
ordered(int32_t bits)
{
    return bits ^ (int32_t)((uint32_t)(bits >> 31) & UINT32_C(0x7FFFFFFF));
}

/* A score that `wanted` of n scores reach and not many more, of which none is NaN; they are overwritten. By halving:
 * counting neighbours side by side takes a third of a quickselect's time, which guesses every second branch wrong. */
static inline float
reached_by(float *scores, int64_t n, int64_t wanted)
{
    int32_t *numbers = (int32_t *)(void *)scores, number;
    int32_t low = INT32_MAX, high = INT32_MIN;
    for (int64_t at = 0; at < n; at++) {
        memcpy(&number, scores + at, sizeof number);
        number = ordered(number);
        memcpy(numbers + at, &number, sizeof number);
        low = number < low ? number : low;
        high = number > high ? number : high;
    }
    while (low < high) { /* all n reach the lowest */
        const int32_t middle = (int32_t)(low + ((int64_t)high - low + 1) / 2);
        int32_t n_reaching = 0;
        for (int64_t at = 0; at < n; at++)
            n_reaching += numbers[at] >= middle;
        if (n_reaching < wanted)
            high = middle - 1;
        else {
            low = middle;
            if (n_reaching <= wanted + wanted / 8)
                break;
        }
    }
    float score;
    number = ordered(low);
    memcpy(&score, &number, sizeof score);
    return score;
}

#endif
