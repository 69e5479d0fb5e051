/* Hoare's quickselect: the k largest of n values come to the front, the k-th largest at k - 1. */
#ifndef SEMID_QUICKSELECT_H
#define SEMID_QUICKSELECT_H

#include <stdint.h>

/* For 1 <= k <= n values of a type, of which none is NaN. */
#define DEFINE_QUICKSELECT(NAME, VALUE)                                                                             \
    static inline void NAME(VALUE *values, int64_t n, int64_t k)                                                    \
    {                                                                                                               \
        int64_t low = 0, high = n - 1;                                                                              \
        while (low < high) {                                                                                        \
            const VALUE a = values[low], b = values[(low + high) >> 1], c = values[high];                           \
            const VALUE pivot = a > b ? (b > c ? b : a > c ? c : a) : (a > c ? a : b > c ? c : b);                  \
            int64_t i = low, j = high;                                                                              \
            while (i <= j) {                                                                                        \
                while (values[i] > pivot)                                                                           \
                    i++;                                                                                            \
                while (pivot > values[j])                                                                           \
                    j--;                                                                                            \
                if (i <= j) {                                                                                       \
                    const VALUE swapped = values[i];                                                                \
                    values[i++] = values[j];                                                                        \
                    values[j--] = swapped;                                                                          \
                }                                                                                                   \
            }                                                                                                       \
            if (k - 1 <= j)                                                                                         \
                high = j;                                                                                           \
            else if (k - 1 >= i)                                                                                    \
                low = i;                                                                                            \
            else                                                                                                    \
                break;                                                                                              \
        }                                                                                                           \
    }

#endif
