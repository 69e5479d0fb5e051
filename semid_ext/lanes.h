/* Many scores at a time: the largest of each lane, which of them reach a threshold, and a threshold that few reach. */
#ifndef SEMID_LANES_H
#define SEMID_LANES_H

#include <stdint.h>
#include <string.h>

#include "nodes.h"
#include "vectors.h"

/* Scores of neighbours that fall into lanes side by side, and those that one word of bits tells about. */
enum { GROUP = 16, WORD = 64 };
/* Bytes between what is read and what is fetched: the processor's own fetching stops at each page. */
enum { AHEAD = 4096 };

/* Rows of scores: row r is bases[beams[r]] plus each of the `size` scores from beams[r] * size on. */
typedef struct {
    const float *scores, *bases;
    const int64_t *beams;
    int64_t n, size;
} Rows;

/* Lanes to raise, GROUP of them and then the next GROUP, from the first again behind the last. */
typedef struct {
    float *lanes;
    int64_t n, next;
} Lanes;

INLINED float *
next_group(Lanes *lanes)
{
    float *group = lanes->lanes + lanes->next;
    lanes->next = lanes->next + GROUP == lanes->n ? 0 : lanes->next + GROUP;
    return group;
}

/* Raise each of GROUP lanes to the largest of every GROUP-th score, from `at` on; what is not a number raises none. */
INLINED void
raise_group_from(int64_t at, float *group, const float *scores, float base, int64_t n)
{
    for (; at < n; at++) {
        const float score = base + scores[at];
        float *lane = group + at % GROUP;
        *lane = score > *lane ? score : *lane;
    }
}

/* The bits of the scores that reach a threshold, of which at most WORD are told, from `at` on. */
INLINED uint64_t
reaching_from(int64_t at, const float *scores, float base, float threshold, int64_t n)
{
    uint64_t bits = 0;
    for (; at < n; at++)
        bits |= (uint64_t)(base + scores[at] >= threshold) << at;
    return bits;
}

#define LEAST(a, b) ((a) < (b) ? (a) : (b))

/* The loops over rows, for a way to raise a group and a way to tell a word. Each group has `length` scores of a row.
 * The words begin at score *at of row *row, and end there when there is no room for more: then both say where to go on.
 * The place of a word is that of its first score among all beams'. */
#define DEFINE_ROWS(TARGET, RAISE_LANES, RAISE_GROUP, MARK_REACHING, REACHING)                                       \
    TARGET static void RAISE_LANES(const Rows *rows, int64_t length, Lanes *lanes)                                  \
    {                                                                                                               \
        for (int64_t row = 0; row < rows->n; row++) {                                                               \
            const float *scores = rows->scores + rows->beams[row] * rows->size, base = rows->bases[rows->beams[row]]; \
            for (int64_t at = 0; at < rows->size; at += length)                                                     \
                RAISE_GROUP(next_group(lanes), scores + at, base, LEAST(length, rows->size - at));                  \
        }                                                                                                           \
    }                                                                                                               \
    TARGET static int64_t MARK_REACHING(const Rows *rows, float threshold, int64_t *row, int64_t *at, int64_t room, \
                                        uint64_t *words, uint32_t *places)                                          \
    {                                                                                                               \
        int64_t n = 0;                                                                                              \
        for (; *row < rows->n; *at = 0, ++*row) {                                                                   \
            const int64_t first = rows->beams[*row] * rows->size;                                                   \
            const float *scores = rows->scores + first, base = rows->bases[rows->beams[*row]];                      \
            for (; *at < rows->size; *at += WORD, n++) {                                                            \
                if (n == room)                                                                                      \
                    return n;                                                                                       \
                words[n] = REACHING(scores + *at, base, threshold, LEAST(WORD, rows->size - *at));                  \
                places[n] = (uint32_t)(first + *at);                                                                \
            }                                                                                                       \
        }                                                                                                           \
        return n;                                                                                                   \
    }

INLINED void
raise_group(float *group, const float *scores, float base, int64_t n)
{
    int64_t at = 0;
#if defined(HAS_SSE2)
    const __m128 bases = _mm_set1_ps(base);
    __m128 lanes[4];
    for (int i = 0; i < 4; i++)
        lanes[i] = _mm_loadu_ps(group + 4 * i);
    for (; at + GROUP <= n; at += GROUP) /* the maximum returns its second operand where one is no number */
        for (int i = 0; i < 4; i++)
            lanes[i] = _mm_max_ps(_mm_add_ps(bases, _mm_loadu_ps(scores + at + 4 * i)), lanes[i]);
    for (int i = 0; i < 4; i++)
        _mm_storeu_ps(group + 4 * i, lanes[i]);
#endif
    raise_group_from(at, group, scores, base, n);
}

INLINED uint64_t
reaching(const float *scores, float base, float threshold, int64_t n)
{
    uint64_t bits = 0;
    int64_t at = 0;
#if defined(HAS_SSE2)
    const __m128 bases = _mm_set1_ps(base), least = _mm_set1_ps(threshold);
    for (; at + 4 <= n; at += 4) {
        const __m128 reach = _mm_cmpge_ps(_mm_add_ps(bases, _mm_loadu_ps(scores + at)), least);
        bits |= (uint64_t)(unsigned)_mm_movemask_ps(reach) << at;
    }
#endif
    return bits | reaching_from(at, scores, base, threshold, n);
}

DEFINE_ROWS(, raise_lanes_plain, raise_group, mark_reaching_plain, reaching)

#if defined(HAS_AVX2)
AVX2 INLINED void
raise_group_avx2(float *group, const float *scores, float base, int64_t n)
{
    const __m256 bases = _mm256_set1_ps(base);
    __m256 a = _mm256_loadu_ps(group), b = _mm256_loadu_ps(group + 8);
    int64_t at = 0;
    for (; at + GROUP <= n; at += GROUP) {
        PREFETCH((const char *)(scores + at) + AHEAD);
        a = _mm256_max_ps(_mm256_add_ps(bases, _mm256_loadu_ps(scores + at)), a);
        b = _mm256_max_ps(_mm256_add_ps(bases, _mm256_loadu_ps(scores + at + 8)), b);
    }
    _mm256_storeu_ps(group, a);
    _mm256_storeu_ps(group + 8, b);
    raise_group_from(at, group, scores, base, n);
}

AVX2 INLINED uint64_t
reaching_avx2(const float *scores, float base, float threshold, int64_t n)
{
    const __m256 bases = _mm256_set1_ps(base), least = _mm256_set1_ps(threshold);
    uint64_t bits = 0;
    int64_t at = 0;
    for (; at + 8 <= n; at += 8) {
        const __m256 reach = _mm256_cmp_ps(_mm256_add_ps(bases, _mm256_loadu_ps(scores + at)), least, _CMP_GE_OQ);
        bits |= (uint64_t)(unsigned)_mm256_movemask_ps(reach) << at;
    }
    return bits | reaching_from(at, scores, base, threshold, n);
}

DEFINE_ROWS(AVX2, raise_lanes_avx2, raise_group_avx2, mark_reaching_avx2, reaching_avx2)

AVX512 INLINED void
raise_group_avx512(float *group, const float *scores, float base, int64_t n)
{
    const __m512 bases = _mm512_set1_ps(base);
    __m512 lanes = _mm512_loadu_ps(group);
    int64_t at = 0;
    for (; at + GROUP <= n; at += GROUP) {
        PREFETCH((const char *)(scores + at) + AHEAD);
        lanes = _mm512_max_ps(_mm512_add_ps(bases, _mm512_loadu_ps(scores + at)), lanes);
    }
    const __mmask16 rest = (__mmask16)((1u << (n - at)) - 1);
    lanes = _mm512_mask_max_ps(lanes, rest, _mm512_add_ps(bases, _mm512_maskz_loadu_ps(rest, scores + at)), lanes);
    _mm512_storeu_ps(group, lanes);
}

AVX512 INLINED uint64_t
reaching_avx512(const float *scores, float base, float threshold, int64_t n)
{
    const __m512 bases = _mm512_set1_ps(base), least = _mm512_set1_ps(threshold);
    uint64_t bits = 0;
    int64_t at = 0;
    for (; at + GROUP <= n; at += GROUP)
        bits |= (uint64_t)_mm512_cmp_ps_mask(_mm512_add_ps(bases, _mm512_loadu_ps(scores + at)), least, _CMP_GE_OQ)
                << at;
    return bits | reaching_from(at, scores, base, threshold, n);
}

DEFINE_ROWS(AVX512, raise_lanes_avx512, raise_group_avx512, mark_reaching_avx512, reaching_avx512)
#endif

/* Raise lanes to the scores of rows. */
INLINED void
raise_lanes(const Rows *rows, int64_t length, Lanes *lanes)
{
#if defined(HAS_AVX2)
    if (has_avx512())
        raise_lanes_avx512(rows, length, lanes);
    else if (has_avx2())
        raise_lanes_avx2(rows, length, lanes);
    else
#endif
        raise_lanes_plain(rows, length, lanes);
}

/* Mark the scores of rows that reach a threshold, and return how many words tell about them. */
INLINED int64_t
mark_reaching(const Rows *rows, float threshold, int64_t *row, int64_t *at, int64_t room, uint64_t *words,
              uint32_t *places)
{
#if defined(HAS_AVX2)
    if (has_avx512())
        return mark_reaching_avx512(rows, threshold, row, at, room, words, places);
    if (has_avx2())
        return mark_reaching_avx2(rows, threshold, row, at, room, words, places);
#endif
    return mark_reaching_plain(rows, threshold, row, at, room, words, places);
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
