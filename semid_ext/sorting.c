/* Codes in any order to sorted distinct keys; semid/kernels/sorting.py. */
#include <string.h>

#include "arguments.h"
#include "keys.h"
#include "keys_arguments.h"

enum { FEW = 64, MOST_GROUPS = 256 };

/* Digits that leave about sixteen keys to a group. */
INLINED int
digit_bits(int64_t n)
{
    const int n_bits = bit_length((uint64_t)n) - 4;
    return n_bits > 8 ? 8 : n_bits;
}

#define TARGET
#define KEY uint16_t
#define SORT_FEW sort_few_16
#define SORT_KEYS sort_keys_16
#include "sort_keys.h"
#define TARGET
#define KEY uint32_t
#define SORT_FEW sort_few_32
#define SORT_KEYS sort_keys_32
#include "sort_keys.h"
#define TARGET
#define KEY uint64_t
#define SORT_FEW sort_few_64
#define SORT_KEYS sort_keys_64
#include "sort_keys.h"
#if defined(__GNUC__) && defined(__x86_64__) /* chosen when it runs: one binary serves every processor */
#define HAS_AVX2
#define TARGET __attribute__((target("avx2")))
#define KEY uint16_t
#define SORT_FEW sort_few_16_avx2
#define SORT_KEYS sort_keys_16_avx2
#include "sort_keys.h"
#define TARGET __attribute__((target("avx2")))
#define KEY uint32_t
#define SORT_FEW sort_few_32_avx2
#define SORT_KEYS sort_keys_32_avx2
#include "sort_keys.h"
#define TARGET __attribute__((target("avx2")))
#define KEY uint64_t
#define SORT_FEW sort_few_64_avx2
#define SORT_KEYS sort_keys_64_avx2
#include "sort_keys.h"
#endif

static void
sort_numbers(void *numbers, int64_t n, int size)
{
#if defined(HAS_AVX2)
    if (__builtin_cpu_supports("avx2")) {
        if (size == 2)
            sort_keys_16_avx2(numbers, n);
        else if (size == 4)
            sort_keys_32_avx2(numbers, n);
        else
            sort_keys_64_avx2(numbers, n);
        return;
    }
#endif
    if (size == 2)
        sort_keys_16(numbers, n);
    else if (size == 4)
        sort_keys_32(numbers, n);
    else
        sort_keys_64(numbers, n);
}

INLINED void
count_rows(const Keys *keys, int code_size)
{
    for (int64_t row = 0; row < keys->n_rows; row++)
        keys->ends[bucket_of(pack_row(keys, row, 0, keys->n_key, code_size), keys->n_low)]++;
    uint32_t first = 0;
    for (int64_t bucket = 0; bucket < keys->n_buckets; bucket++) {
        const uint32_t n = keys->ends[bucket];
        keys->ends[bucket] = first;
        first += n;
    }
}

PyObject *
count_keys(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    Arguments arguments;
    Keys keys;
    if (take_arguments("count_keys", KEYS_LAYOUT, objects, n, &arguments) < 0)
        return NULL;
    if (take_keys(&arguments, &keys) < 0)
        return wrong_lengths("count_keys", &arguments);
    Py_BEGIN_ALLOW_THREADS
    FOR_SIZE(keys.code_size, count_rows(&keys, SIZE));
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    Py_RETURN_NONE;
}

INLINED void
scatter_rows(const Keys *keys, int code_size, int key_size)
{
    for (int64_t row = 0; row < keys->n_rows; row++) {
        const uint64_t prefix = pack_row(keys, row, 0, keys->n_key, code_size);
        const uint32_t place = keys->ends[bucket_of(prefix, keys->n_low)]++;
        uint64_t key = low_bits(prefix, keys->n_low);
        if (keys->n_position)
            key = key << keys->n_position | (uint64_t)row;
        put_number(keys->keys, place, key, key_size);
    }
}

PyObject *
scatter_keys(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    Arguments arguments;
    Keys keys;
    if (take_arguments("scatter_keys", KEYS_LAYOUT " *1w", objects, n, &arguments) < 0)
        return NULL;
    if (take_keys(&arguments, &keys) < 0 || LENGTH(KEYS, 0) != keys.n_rows)
        return wrong_lengths("scatter_keys", &arguments);
    Py_BEGIN_ALLOW_THREADS
    if (keys.key_size == 2)
        FOR_SIZE(keys.code_size, scatter_rows(&keys, SIZE, 2));
    else if (keys.key_size == 4)
        FOR_SIZE(keys.code_size, scatter_rows(&keys, SIZE, 4));
    else
        FOR_SIZE(keys.code_size, scatter_rows(&keys, SIZE, 8));
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    Py_RETURN_NONE;
}

PyObject *
sort_keys(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    enum { OF_ENDS, OF_KEYS };
    Arguments arguments;
    if (take_arguments("sort_keys", "d1r *1w", objects, n, &arguments) < 0)
        return NULL;
    const int64_t n_buckets = LENGTH(OF_ENDS, 0);
    const uint32_t *ends = ARRAY(uint32_t, OF_ENDS);
    const int key_size = (int)arguments.views[OF_KEYS].itemsize;
    if (n_buckets < 1 || ends[n_buckets - 1] != LENGTH(OF_KEYS, 0) || key_size == 1)
        return wrong_lengths("sort_keys", &arguments);
    Py_BEGIN_ALLOW_THREADS
    int64_t first = 0;
    for (int64_t bucket = 0; bucket < n_buckets; bucket++) {
        if (ends[bucket] - first > 1)
            sort_numbers(ARRAY(char, OF_KEYS) + first * key_size, ends[bucket] - first, key_size);
        first = ends[bucket];
    }
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    Py_RETURN_NONE;
}

/* Sort keys of equal prefixes by the levels from `level` on, as many at a time as fit a key. */
static void
sort_ties_by(const Keys *keys, uint64_t *numbers, int64_t n, int64_t level)
{
    if (level == keys->n_levels)
        return;
    int64_t next = level, n_bits = 0;
    while (next < keys->n_levels && n_bits + keys->bits[next] <= 64 - keys->n_position)
        n_bits += keys->bits[next++];
    for (int64_t first = 0, last; first < n; first = last) {
        const uint64_t prefix = numbers[first] >> keys->n_position;
        for (last = first + 1; last < n && numbers[last] >> keys->n_position == prefix; last++)
            ;
        if (last - first == 1)
            continue;
        for (int64_t at = first; at < last; at++) {
            const uint64_t row = low_bits(numbers[at], keys->n_position);
            FOR_SIZE(keys->code_size, numbers[at] = pack_row(keys, (int64_t)row, level, next, SIZE)
                                                    << keys->n_position | row);
        }
        sort_numbers(numbers + first, last - first, 8);
        sort_ties_by(keys, numbers + first, last - first, next);
        for (int64_t at = first; at < last; at++)
            numbers[at] = prefix << keys->n_position | low_bits(numbers[at], keys->n_position);
    }
}

PyObject *
sort_ties(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    Arguments arguments;
    Keys keys;
    if (take_arguments("sort_ties", KEYS_LAYOUT " *1w", objects, n, &arguments) < 0)
        return NULL;
    if (take_keys(&arguments, &keys) < 0 || !keys.n_position || keys.ends[keys.n_buckets - 1] != LENGTH(KEYS, 0))
        return wrong_lengths("sort_ties", &arguments);
    Py_BEGIN_ALLOW_THREADS
    int64_t first = 0;
    for (int64_t bucket = 0; bucket < keys.n_buckets; bucket++) {
        sort_ties_by(&keys, ARRAY(uint64_t, KEYS) + first, keys.ends[bucket] - first, keys.n_key);
        first = keys.ends[bucket];
    }
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    Py_RETURN_NONE;
}

INLINED void
drop_equal(const Keys *keys, int64_t *n_forks, int is_whole, int key_size, int code_size)
{
    uint64_t before = 0;
    int64_t n = 0, first = 0, row_before = 0;
    for (int64_t bucket = 0; bucket < keys->n_buckets; bucket++) {
        const int64_t last = keys->ends[bucket];
        const uint64_t base = bucket_base(bucket, keys->n_low);
        for (int64_t at = first; at < last; at++) {
            const uint64_t number = number_at(keys->keys, at, key_size);
            const uint64_t prefix = base | (is_whole ? number : number >> keys->n_position);
            const int64_t row = is_whole ? 0 : (int64_t)low_bits(number, keys->n_position);
            const int64_t level = n ? fork_level(keys, prefix, before, row, row_before, is_whole, code_size) : 0;
            if (level == keys->n_levels)
                continue;
            n_forks[level]++;
            put_number(keys->keys, n++, number, key_size);
            before = prefix;
            row_before = row;
        }
        first = last;
        keys->ends[bucket] = (uint32_t)n;
    }
}

PyObject *
drop_repeats(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    enum { N_FORKS = KEYS + 1 };
    Arguments arguments;
    Keys keys;
    if (take_arguments("drop_repeats", KEYS_LAYOUT " *1w q1w", objects, n, &arguments) < 0)
        return NULL;
    if (take_keys(&arguments, &keys) < 0 || LENGTH(N_FORKS, 0) != keys.n_levels
        || keys.ends[keys.n_buckets - 1] != LENGTH(KEYS, 0))
        return wrong_lengths("drop_repeats", &arguments);
    int64_t *n_forks = ARRAY(int64_t, N_FORKS);
    Py_BEGIN_ALLOW_THREADS
    if (keys.n_position)
        FOR_SIZE(keys.code_size, drop_equal(&keys, n_forks, 0, 8, SIZE));
    else if (keys.key_size == 2)
        drop_equal(&keys, n_forks, 1, 2, 1);
    else if (keys.key_size == 4)
        drop_equal(&keys, n_forks, 1, 4, 1);
    else
        drop_equal(&keys, n_forks, 1, 8, 1);
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    Py_RETURN_NONE;
}
