/* Rows of codes as numbers that are sorted instead of them; semid/kernels/sorting.py says how they are laid out. */
#ifndef SEMID_KEYS_H
#define SEMID_KEYS_H

#include <stdint.h>

#include "nodes.h"

typedef struct {
    const void *codes; /* (n_rows, n_levels), code_size bytes each */
    const int64_t *bits;
    uint32_t *ends;
    void *keys; /* key_size bytes each */
    int64_t n_rows, n_levels, n_buckets, n_key;
    int n_low, n_position, code_size, key_size;
    uint8_t level_of_bit[64]; /* the level of each bit of a prefix; a prefix has at most 64 levels */
} Keys;

/* How many bits a number other than 0 has. */
INLINED int
bit_length(uint64_t number)
{
#if defined(__GNUC__)
    return 64 - __builtin_clzll(number);
#else
    int length = 0;
    for (int half = 32; half; half >>= 1)
        if (number >> half) {
            number >>= half;
            length += half;
        }
    return length + 1;
#endif
}

INLINED uint64_t
number_at(const void *numbers, int64_t at, int size)
{
    return size == 8 ? ((const uint64_t *)numbers)[at] : code_at(numbers, at, size);
}

INLINED void
put_number(void *numbers, int64_t at, uint64_t number, int size)
{
    if (size == 8)
        ((uint64_t *)numbers)[at] = number;
    else
        put_code(numbers, at, (uint32_t)number, size);
}

/* The codes of some levels of a row as one number. */
INLINED uint64_t
pack_row(const Keys *keys, int64_t row, int64_t first, int64_t last, int code_size)
{
    const int64_t at = row * keys->n_levels;
    uint64_t packed = number_at(keys->codes, at + first, code_size);
    for (int64_t level = first + 1; level < last; level++)
        packed = packed << keys->bits[level] | number_at(keys->codes, at + level, code_size);
    return packed;
}

/* Shifts by 64 are not defined in C. */
INLINED uint64_t
bucket_of(uint64_t prefix, int n_low)
{
    return n_low < 64 ? prefix >> n_low : 0;
}

INLINED uint64_t
bucket_base(int64_t bucket, int n_low)
{
    return n_low < 64 ? (uint64_t)bucket << n_low : 0;
}

INLINED uint64_t
low_bits(uint64_t number, int n_bits)
{
    return n_bits < 64 ? number & ((UINT64_C(1) << n_bits) - 1) : number;
}

/* The first level at which sorted items differ, n_levels where none does; rows are looked at where prefixes agree. */
INLINED int64_t
fork_level(const Keys *keys, uint64_t prefix, uint64_t other, int64_t row, int64_t other_row, int is_whole,
           int code_size)
{
    const uint64_t differ = prefix ^ other;
    if (differ)
        return keys->level_of_bit[bit_length(differ) - 1];
    int64_t level = keys->n_key;
    if (!is_whole)
        while (level < keys->n_levels
               && number_at(keys->codes, row * keys->n_levels + level, code_size)
                      == number_at(keys->codes, other_row * keys->n_levels + level, code_size))
            level++;
    return level;
}

/* Run a statement with SIZE as a constant: 1, 2, 4 or 8. */
#define FOR_SIZE(size, statement)                                                                                   \
    do {                                                                                                            \
        if ((size) == 1) {                                                                                          \
            enum { SIZE = 1 };                                                                                      \
            statement;                                                                                              \
        }                                                                                                           \
        else if ((size) == 2) {                                                                                     \
            enum { SIZE = 2 };                                                                                      \
            statement;                                                                                              \
        }                                                                                                           \
        else if ((size) == 4) {                                                                                     \
            enum { SIZE = 4 };                                                                                      \
            statement;                                                                                              \
        }                                                                                                           \
        else {                                                                                                      \
            enum { SIZE = 8 };                                                                                      \
            statement;                                                                                              \
        }                                                                                                           \
    } while (0)

#endif
