/* What may follow a node, as a mask over a language model's vocabulary, of scores or of bits; semid/kernels/mask.py. */
#include <string.h>

#include "arguments.h"

/* Fill a row with one value: its first piece value by value, the rest as copies of it that stay in the cache. */
INLINED void
fill_row(char *row, int64_t n_bytes, const void *value, int size)
{
    enum { PIECE = 4096 };
    const int64_t n_first = n_bytes < PIECE ? n_bytes : PIECE;
    for (int64_t at = 0; at < n_first; at += size)
        memcpy(row + at, value, (size_t)size);
    for (int64_t at = n_first; at < n_bytes; at += PIECE)
        memcpy(row + at, row, (size_t)(n_bytes - at < PIECE ? n_bytes - at : PIECE));
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
        fill_row(of_row, width * size, neg_inf, size);
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
