/* Down the trie: from prefixes to nodes, and from nodes to their children; semid/kernels/walk.py. */
#include "arguments.h"

INLINED int64_t
count_of(const void *codes, int64_t low, int64_t high, int64_t wanted, int code_size)
{
    return high - low < 32 ? count_few_codes_below(codes, low, high, wanted, code_size)
                           : count_codes_below(codes, low, high, wanted, code_size);
}

INLINED int64_t
node_of(const Trie *trie, const int64_t *prefix, int64_t n_depths, int code_size)
{
    int64_t node = 0, low = 0, high = trie->n_items;
    for (int64_t depth = 0; depth < n_depths; depth++) {
        const void *codes = codes_of_level(trie, depth, code_size);
        const int is_explicit = depth < trie->n_explicit;
        if (is_explicit) /* the edges of the node, not its ranks */
            child_range(trie, depth, node, &low, &high);
        const int64_t at = count_of(codes, low, high, prefix[depth], code_size);
        if (at == high || (int64_t)code_at(codes, at, code_size) != prefix[depth])
            return -1;
        node = at;
        if (is_explicit)
            node_range(trie, depth + 1, node, &low, &high);
        else { /* items that share a prefix are neighbours, sorted by their next code */
            low = at;
            high = count_of(codes, at, high, prefix[depth] + 1, code_size);
        }
    }
    return alive_below(trie, low, high) == 0 ? -1 : node;
}

INLINED void
walk_rows(const Trie *trie, const int64_t *prefixes, int64_t n_rows, int64_t n_depths, int64_t *out, int code_size)
{
    for (int64_t row = 0; row < n_rows; row++)
        out[row] = node_of(trie, prefixes + row * n_depths, n_depths, code_size);
}

PyObject *
walk(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    enum { PREFIXES = N_TRIE, OUT };
    Arguments arguments;
    if (take_arguments("walk", TRIE_LAYOUT "q2r q1w", objects, n, &arguments) < 0)
        return NULL;
    const Trie *trie = &arguments.trie;
    const int64_t n_rows = LENGTH(PREFIXES, 0), n_depths = LENGTH(PREFIXES, 1);
    if (LENGTH(OUT, 0) != n_rows || n_depths > trie->n_levels)
        return wrong_lengths("walk", &arguments);
    Py_BEGIN_ALLOW_THREADS
    FOR_CODE_SIZE(trie, walk_rows(trie, ARRAY(int64_t, PREFIXES), n_rows, n_depths, ARRAY(int64_t, OUT), CODE_SIZE));
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    Py_RETURN_NONE;
}

PyObject *
ranges(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    enum { DEPTH = N_TRIE, NODES, OUT };
    Arguments arguments;
    if (take_arguments("ranges", TRIE_LAYOUT "n0r q1r q2w", objects, n, &arguments) < 0)
        return NULL;
    const Trie *trie = &arguments.trie;
    const int64_t depth = arguments.numbers[DEPTH], n_rows = LENGTH(NODES, 0), *nodes = ARRAY(int64_t, NODES);
    int64_t *out = ARRAY(int64_t, OUT);
    if (LENGTH(OUT, 0) != n_rows || LENGTH(OUT, 1) != 2 || depth < 0 || depth > trie->n_levels)
        return wrong_lengths("ranges", &arguments);
    Py_BEGIN_ALLOW_THREADS
    for (int64_t row = 0; row < n_rows; row++) {
        out[2 * row] = out[2 * row + 1] = 0;
        if (nodes[row] >= 0)
            node_range(trie, depth, nodes[row], &out[2 * row], &out[2 * row + 1]);
    }
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    Py_RETURN_NONE;
}

INLINED void
count_rows(const Trie *trie, int64_t depth, const int64_t *nodes, int64_t n_rows, void *room, int64_t *row_starts,
           int code_size)
{
    row_starts[0] = 0;
    for (int64_t row = 0; row < n_rows; row++)
        row_starts[row + 1]
            = row_starts[row] + (nodes[row] < 0 ? 0 : list_children(trie, depth, nodes[row], room, code_size));
}

PyObject *
count_children(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    enum { DEPTH = N_TRIE, NODES, ROOM, ROW_STARTS };
    Arguments arguments;
    if (take_arguments("count_children", TRIE_LAYOUT "n0r q1r c1w q1w", objects, n, &arguments) < 0)
        return NULL;
    const Trie *trie = &arguments.trie;
    const int64_t depth = arguments.numbers[DEPTH], n_rows = LENGTH(NODES, 0);
    if (LENGTH(ROW_STARTS, 0) != n_rows + 1 || depth < 0 || depth >= trie->n_levels)
        return wrong_lengths("count_children", &arguments);
    Py_BEGIN_ALLOW_THREADS
    FOR_CODE_SIZE(trie, count_rows(trie, depth, ARRAY(int64_t, NODES), n_rows, ARRAY(void, ROOM),
                                   ARRAY(int64_t, ROW_STARTS), CODE_SIZE));
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    Py_RETURN_NONE;
}

INLINED void
gather_rows(const Trie *trie, int64_t depth, const int64_t *nodes, int64_t n_rows, const int64_t *row_starts,
            char *codes, int code_size)
{
    for (int64_t row = 0; row < n_rows; row++)
        if (nodes[row] >= 0)
            list_children(trie, depth, nodes[row], codes + row_starts[row] * code_size, code_size);
}

PyObject *
gather_children(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    enum { DEPTH = N_TRIE, NODES, ROW_STARTS, CODES };
    Arguments arguments;
    if (take_arguments("gather_children", TRIE_LAYOUT "n0r q1r q1r c1w", objects, n, &arguments) < 0)
        return NULL;
    const Trie *trie = &arguments.trie;
    const int64_t depth = arguments.numbers[DEPTH], n_rows = LENGTH(NODES, 0);
    if (LENGTH(ROW_STARTS, 0) != n_rows + 1 || LENGTH(CODES, 0) < ARRAY(int64_t, ROW_STARTS)[n_rows] || depth < 0
        || depth >= trie->n_levels)
        return wrong_lengths("gather_children", &arguments);
    Py_BEGIN_ALLOW_THREADS
    FOR_CODE_SIZE(trie, gather_rows(trie, depth, ARRAY(int64_t, NODES), n_rows, ARRAY(int64_t, ROW_STARTS),
                                    ARRAY(char, CODES), CODE_SIZE));
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    Py_RETURN_NONE;
}
