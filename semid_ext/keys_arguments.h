/* The arguments that all kernels on keys begin with. */
#ifndef SEMID_KEYS_ARGUMENTS_H
#define SEMID_KEYS_ARGUMENTS_H

#include "arguments.h"
#include "keys.h"

/* codes, bits, n_key, n_low, n_position, ends; keys follow for all but the first. */
#define KEYS_LAYOUT "*2r q1r n0r n0r n0r d1w"
enum { CODES, BITS, N_KEY, N_LOW, N_POSITION, ENDS, KEYS };

/* Returns -1 where they disagree. */
static inline int
take_keys(const Arguments *arguments, Keys *keys)
{
    const Py_buffer *views = arguments->views;
    const int64_t n_levels = views[CODES].shape[1], *bits = views[BITS].buf, *numbers = arguments->numbers;
    const int64_t n_key = numbers[N_KEY], n_low = numbers[N_LOW], n_position = numbers[N_POSITION];
    int64_t n_bits = 0;
    if (views[BITS].shape[0] != n_levels || n_key < 1 || n_key > n_levels || (n_key < n_levels && !n_position))
        return -1;
    *keys = (Keys){
        .codes = views[CODES].buf,
        .bits = bits,
        .ends = views[ENDS].buf,
        .n_rows = views[CODES].shape[0],
        .n_levels = n_levels,
        .n_buckets = views[ENDS].shape[0],
        .n_key = n_key,
        .n_low = (int)n_low,
        .n_position = (int)n_position,
        .code_size = (int)views[CODES].itemsize,
    };
    for (int64_t level = 0; level < n_levels; level++)
        if (bits[level] < 1 || bits[level] > 32)
            return -1;
    for (int64_t level = n_key - 1; level >= 0; level--)
        for (int64_t bit = 0; bit < bits[level]; bit++) {
            if (n_bits == 64)
                return -1;
            keys->level_of_bit[n_bits++] = (uint8_t)level;
        }
    if (n_low < 0 || n_low > n_bits || n_bits - n_low > 30 || keys->n_buckets != INT64_C(1) << (n_bits - n_low)
        || n_position < 0 || n_position > 32 || n_low + n_position > 64)
        return -1;
    if (arguments->n > KEYS) {
        keys->keys = views[KEYS].buf;
        keys->key_size = (int)views[KEYS].itemsize;
        if (keys->key_size == 1 || (n_position && keys->key_size != 8) || n_low + n_position > 8 * keys->key_size)
            return -1;
    }
    return 0;
}

#endif
