/* Scores by the group: the largest of each lane, and which of a group reach a threshold. */
#ifndef SEMID_LANES_H
#define SEMID_LANES_H

#include <stdint.h>

#include "nodes.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Neighbouring scores that are looked at together. */
enum { GROUP = 16 };

/* Raise each of GROUP lanes to the largest of every GROUP-th of n scores; what is not a number raises none. */
INLINED void
raise_lanes(float *lanes, const float *log_probs, float base, int64_t n)
{
    int64_t first = 0;
#if defined(__SSE2__)
    const __m128 bases = _mm_set1_ps(base);
    __m128 a = _mm_loadu_ps(lanes), b = _mm_loadu_ps(lanes + 4), c = _mm_loadu_ps(lanes + 8),
           d = _mm_loadu_ps(lanes + 12);
    for (; first + GROUP <= n; first += GROUP) { /* the maximum returns its second operand where one is no number */
        a = _mm_max_ps(_mm_add_ps(bases, _mm_loadu_ps(log_probs + first)), a);
        b = _mm_max_ps(_mm_add_ps(bases, _mm_loadu_ps(log_probs + first + 4)), b);
        c = _mm_max_ps(_mm_add_ps(bases, _mm_loadu_ps(log_probs + first + 8)), c);
        d = _mm_max_ps(_mm_add_ps(bases, _mm_loadu_ps(log_probs + first + 12)), d);
    }
    _mm_storeu_ps(lanes, a);
    _mm_storeu_ps(lanes + 4, b);
    _mm_storeu_ps(lanes + 8, c);
    _mm_storeu_ps(lanes + 12, d);
#endif
    for (; first < n; first++) {
        const float score = base + log_probs[first];
        float *lane = lanes + first % GROUP;
        *lane = score > *lane ? score : *lane;
    }
}

/* The bits of the first n <= GROUP scores that reach the threshold. */
INLINED unsigned
reaching(const float *log_probs, float base, float threshold, int64_t n)
{
    unsigned bits = 0;
#if defined(__SSE2__)
    if (n == GROUP) {
        const __m128 bases = _mm_set1_ps(base), least = _mm_set1_ps(threshold);
        const __m128i a = _mm_castps_si128(_mm_cmpge_ps(_mm_add_ps(bases, _mm_loadu_ps(log_probs)), least));
        const __m128i b = _mm_castps_si128(_mm_cmpge_ps(_mm_add_ps(bases, _mm_loadu_ps(log_probs + 4)), least));
        const __m128i c = _mm_castps_si128(_mm_cmpge_ps(_mm_add_ps(bases, _mm_loadu_ps(log_probs + 8)), least));
        const __m128i d = _mm_castps_si128(_mm_cmpge_ps(_mm_add_ps(bases, _mm_loadu_ps(log_probs + 12)), least));
        return (unsigned)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d)));
    }
#endif
    for (int64_t at = 0; at < n; at++)
        bits |= (unsigned)(base + log_probs[at] >= threshold) << at;
    return bits;
}

/* The position of the lowest bit set. */
INLINED int
lowest_bit(unsigned bits)
{
#if defined(__GNUC__)
    return __builtin_ctz(bits);
#else
    return (int)popcount((bits & (~bits + 1)) - 1);
#endif
}

/* The k-th largest of n scores, of which none is NaN; they are reordered. Hoare's quickselect. */
static inline float
kth_largest(float *scores, int64_t n, int64_t k)
{
    int64_t low = 0, high = n - 1;
    while (low < high) {
        const float pivot = scores[(low + high) >> 1];
        int64_t i = low, j = high;
        while (i <= j) {
            while (scores[i] > pivot)
                i++;
            while (pivot > scores[j])
                j--;
            if (i <= j) {
                const float swapped = scores[i];
                scores[i++] = scores[j];
                scores[j--] = swapped;
            }
        }
        if (k - 1 <= j)
            high = j;
        else if (k - 1 >= i)
            low = i;
        else
            break;
    }
    return scores[k - 1];
}

#endif
