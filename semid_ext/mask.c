/* What may follow a node, as a mask over a language model's vocabulary, of scores or of bits; semid/kernels/mask.py. */
#include <string.h>

#include "arguments.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Scores of so many bytes leave the caches before anybody reads them: they are written around the caches, which need
 * not read the memory first then (194 MB: 4.5 ms instead of 5.9). */
enum { STREAMED_BYTES = 1 << 25 };

/* Fill a row with one value; the loops of a constant size become vector stores. */
INLINED void
fill_row(char *row, int64_t width, const void *value, int size)
{
    if (size == 8) {
        const uint64_t eight = *(const uint64_t *)value;
        for (int64_t at = 0; at < width; at++)
            ((uint64_t *)row)[at] = eight;
    }
    else if (size == 4) {
        const uint32_t four = *(const uint32_t *)value;
        for (int64_t at = 0; at < width; at++)
            ((uint32_t *)row)[at] = four;
    }
    else if (size == 2) {
        const uint16_t two = *(const uint16_t *)value;
        for (int64_t at = 0; at < width; at++)
            ((uint16_t *)row)[at] = two;
    }
    else
        memset(row, *(const unsigned char *)value, (size_t)width);
}

/* The same around the caches, where the processor can. */
INLINED void
stream_row(char *row, int64_t width, const void *value, int size)
{
#if defined(__SSE2__)
    char pattern[16];
    const int64_t n_bytes = width * size;
    int64_t at = 0;
    for (int first = 0; first < 16; first += size)
        memcpy(pattern + first, value, (size_t)size);
    const __m128i both = _mm_loadu_si128((const __m128i *)pattern);
    if ((uintptr_t)row % (size_t)size == 0) {
        for (; at < n_bytes && (uintptr_t)(row + at) % 16; at += size)
            memcpy(row + at, value, (size_t)size);
        for (; at + 64 <= n_bytes; at += 64) {
            _mm_stream_si128((__m128i *)(row + at), both);
            _mm_stream_si128((__m128i *)(row + at + 16), both);
            _mm_stream_si128((__m128i *)(row + at + 32), both);
            _mm_stream_si128((__m128i *)(row + at + 48), both);
        }
        _mm_sfence();
    }
    for (; at < n_bytes; at += size)
        memcpy(row + at, value, (size_t)size);
#else
    fill_row(row, width, value, size);
#endif
}

INLINED void
mask_rows(const Trie *trie, int64_t depth, const int64_t *nodes, const int64_t *tokens, const void *neg_inf,
          char *scores, int64_t n_rows, int64_t width, void *codes, char *kept, int code_size, int size)
{
    for (int64_t row = 0; row < n_rows; row++) {
        char *of_row = scores + row * width * size;
        const int64_t n = nodes[row] < 0 ? 0 : list_children(trie, depth, nodes[row], codes, code_size);
        for (int64_t child = 0; child < n; child++)
            memcpy(kept + child * size, of_row + tokens[code_at(codes, child, code_size)] * size, (size_t)size);
        if (n_rows * width * size < STREAMED_BYTES)
            fill_row(of_row, width, neg_inf, size);
        else
            stream_row(of_row, width, neg_inf, size);
        for (int64_t child = 0; child < n; child++)
            memcpy(of_row + tokens[code_at(codes, child, code_size)] * size, kept + child * size, (size_t)size);
    }
}

PyObject *
mask_inplace(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    enum { DEPTH = N_TRIE, NODES, TOKENS, NEG_INF, SCORES, CODES, KEPT };
    Arguments arguments;
    if (take_arguments("mask_inplace", TRIE_LAYOUT "n0r q1r q1r *0r *2w c1w *1w", objects, n, &arguments) < 0)
        return NULL;
    const Trie *trie = &arguments.trie;
    const int64_t depth = arguments.numbers[DEPTH], n_rows = LENGTH(SCORES, 0), width = LENGTH(SCORES, 1);
    const Py_ssize_t size = arguments.views[SCORES].itemsize;
    if (LENGTH(NODES, 0) != n_rows || arguments.views[NEG_INF].itemsize != size
        || arguments.views[KEPT].itemsize != size || depth < 0 || depth >= trie->n_levels)
        return wrong_lengths("mask_inplace", &arguments);
    Py_BEGIN_ALLOW_THREADS
#define RUN(SIZE)                                                                                                   \
    FOR_CODE_SIZE(trie, mask_rows(trie, depth, ARRAY(int64_t, NODES), ARRAY(int64_t, TOKENS), ARRAY(void, NEG_INF), \
                                  ARRAY(char, SCORES), n_rows, width, ARRAY(void, CODES), ARRAY(char, KEPT),        \
                                  CODE_SIZE, SIZE))
    if (size == 1)
        RUN(1);
    else if (size == 2)
        RUN(2);
    else if (size == 4)
        RUN(4);
    else
        RUN(8);
#undef RUN
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    Py_RETURN_NONE;
}

INLINED void
fill_bits(const Trie *trie, int64_t depth, const int64_t *nodes, const int64_t *tokens, uint32_t *bitmask,
          int64_t n_rows, int64_t n_words, void *codes, int code_size)
{
    for (int64_t row = 0; row < n_rows; row++) {
        uint32_t *bits = bitmask + row * n_words;
        memset(bits, 0, (size_t)n_words * sizeof *bits);
        const int64_t n = nodes[row] < 0 ? 0 : list_children(trie, depth, nodes[row], codes, code_size);
        for (int64_t child = 0; child < n; child++) {
            const int64_t token = tokens[code_at(codes, child, code_size)];
            bits[token >> 5] |= UINT32_C(1) << (token & 31);
        }
    }
}

PyObject *
fill_bitmask(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    enum { DEPTH = N_TRIE, NODES, TOKENS, BITMASK, CODES };
    Arguments arguments;
    if (take_arguments("fill_bitmask", TRIE_LAYOUT "n0r q1r q1r d2w c1w", objects, n, &arguments) < 0)
        return NULL;
    const Trie *trie = &arguments.trie;
    const int64_t depth = arguments.numbers[DEPTH], n_rows = LENGTH(BITMASK, 0), n_words = LENGTH(BITMASK, 1);
    if (LENGTH(NODES, 0) != n_rows || depth < 0 || depth >= trie->n_levels)
        return wrong_lengths("fill_bitmask", &arguments);
    Py_BEGIN_ALLOW_THREADS
    FOR_CODE_SIZE(trie, fill_bits(trie, depth, ARRAY(int64_t, NODES), ARRAY(int64_t, TOKENS), ARRAY(uint32_t, BITMASK),
                                  n_rows, n_words, ARRAY(void, CODES), CODE_SIZE));
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    Py_RETURN_NONE;
}
