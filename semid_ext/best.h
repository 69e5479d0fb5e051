/* The k largest of a stream of keys: a buffer that is cut down to them whenever it is full, and the threshold which
 * that gives for what follows. */
#ifndef SEMID_BEST_H
#define SEMID_BEST_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#include "nodes.h"
#include "quickselect.h"
#include "vectors.h"

/* Keys are pushed in blocks of at most so many. */
enum { BLOCK = 64 };

typedef struct {
    uint64_t *keys, *scratch; /* room of most + BLOCK + FEW each */
    int64_t n, k, most;       /* more than `most` keys are cut down to k */
    float threshold;          /* what a score must reach; never -inf, which no candidate has */
    int is_all;               /* no key was lost, and no score was stopped */
    int is_cut;               /* keys were lost: only the k largest are known to be the largest */
} Best;

INLINED void
begin(Best *best, int64_t k, float threshold)
{
    best->n = 0;
    best->k = k;
    best->most = 2 * k;
    best->is_cut = 0;
    best->is_all = !(threshold >= -FLT_MAX);
    best->threshold = best->is_all ? -FLT_MAX : threshold;
}

/* A key orders candidates by score, and equal scores by what is lower, its beam or else its code. */
INLINED uint64_t
key_of(float score, uint32_t place)
{
    uint32_t bits;
    score += 0.0f; /* -0.0 ties with 0.0 */
    memcpy(&bits, &score, sizeof bits);
    bits = bits & UINT32_C(0x80000000) ? ~bits : bits | UINT32_C(0x80000000);
    return (uint64_t)bits << 32 | (uint32_t)~place;
}

INLINED uint32_t
place_of(uint64_t key)
{
    return ~(uint32_t)key;
}

INLINED float
score_of(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    float score;
    bits = bits & UINT32_C(0x80000000) ? bits & UINT32_C(0x7FFFFFFF) : ~bits;
    memcpy(&score, &bits, sizeof score);
    return score;
}

DEFINE_QUICKSELECT(keep_largest, uint64_t)

/* Make room for a block: keep the k best keys and raise the threshold to the score of the last of them. */
INLINED void
make_room(Best *best)
{
    if (best->n <= best->most)
        return;
    keep_largest(best->keys, best->n, best->k);
    best->n = best->k;
    best->is_all = 0;
    best->is_cut = 1;
    uint64_t least = best->keys[0];
    for (int64_t at = 1; at < best->n; at++)
        least = best->keys[at] < least ? best->keys[at] : least;
    best->threshold = score_of(least);
}

/* Write keys that all differ in order, the largest first: runs of eight by counting who is larger, then merged, neither
 * of which has branches to guess wrong. Returns the one of the two that has them in the end. */
static inline uint64_t *
sort_keys_plain(uint64_t *from, uint64_t *to, int64_t n)
{
    enum { RUN = 8 };
    for (int64_t first = 0; first < n; first += RUN) {
        const int64_t length = n - first < RUN ? n - first : RUN;
        for (int64_t one = 0; one < length; one++) {
            int64_t slot = 0;
            for (int64_t other = 0; other < length; other++)
                slot += from[first + other] > from[first + one];
            to[first + slot] = from[first + one];
        }
    }
    for (int64_t width = RUN; width < n; width *= 2) {
        uint64_t *merged = from;
        from = to;
        to = merged;
        for (int64_t first = 0; first < n; first += 2 * width) {
            const int64_t middle = first + width < n ? first + width : n;
            const int64_t end = middle + width < n ? middle + width : n;
            int64_t left = first, right = middle, at = first;
            while (left < middle && right < end) {
                const int take_left = from[left] > from[right];
                to[at++] = take_left ? from[left] : from[right];
                left += take_left;
                right += !take_left;
            }
            memcpy(to + at, from + left, (size_t)(middle - left) * sizeof *to);
            memcpy(to + at + middle - left, from + right, (size_t)(end - right) * sizeof *to);
        }
    }
    return to;
}

/* So many keys are compared with each other, FEW at a time; there is room for as many behind the last key. */
enum { FEW = 16, SORTED_BY_COUNTING = 128 };

#if defined(HAS_AVX2)
/* The same for few keys: the slot of each is the number of those that are larger. */
AVX2 static void
sort_few_keys_avx2(uint64_t *from, uint64_t *to, int64_t n)
{
    const __m256i sign = _mm256_set1_epi64x(INT64_MIN); /* comparing takes them as signed */
    for (int64_t first = 0; first < n; first += FEW) {
        __m256i some[FEW / 4], slots[FEW / 4];
        for (int at = 0; at < FEW / 4; at++) {
            some[at] = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(from + first) + at), sign);
            slots[at] = _mm256_setzero_si256();
        }
        for (int64_t other = 0; other < n; other++) {
            const __m256i one = _mm256_xor_si256(_mm256_set1_epi64x((int64_t)from[other]), sign);
            for (int at = 0; at < FEW / 4; at++)
                slots[at] = _mm256_sub_epi64(slots[at], _mm256_cmpgt_epi64(one, some[at]));
        }
        uint64_t slot[FEW];
        for (int at = 0; at < FEW / 4; at++)
            _mm256_storeu_si256((__m256i *)slot + at, slots[at]);
        for (int64_t at = 0; at < FEW && first + at < n; at++)
            to[slot[at]] = from[first + at];
    }
}
#endif

/* Sort keys that all differ, the largest first, and leave out those that a lost key may have been larger than: a key with
 * the score of the threshold is pushed although others of this score, which come before it, have been lost. */
static inline void
sort_best(Best *best)
{
    uint64_t *sorted;
#if defined(HAS_AVX2)
    if (best->n <= SORTED_BY_COUNTING && has_avx2()) {
        sort_few_keys_avx2(best->keys, best->scratch, best->n);
        sorted = best->scratch;
    }
    else
#endif
        sorted = sort_keys_plain(best->keys, best->scratch, best->n);
    if (sorted == best->scratch) {
        best->scratch = best->keys;
        best->keys = sorted;
    }
    if (best->is_cut && best->n > best->k)
        best->n = best->k;
}

#endif
