/* Down the trie: from prefixes to nodes, and from nodes to their children; semid/kernels/walk.py. */
#include "arguments.h"

INLINED int64_t
count_of(const void *codes, int64_t low, int64_t high, int64_t wanted, int code_size)
{
    return high - low < 32 ? count_few_codes_below(codes, low, high, wanted, code_size)
                           : count_codes_below(codes, low, high, wanted, code_size);
}

/* Codes by token: of level l, those of the tokens from firsts[l] on are codes[starts[l] .. starts[l + 1] - 1]. */
typedef struct {
    const int64_t *firsts, *starts;
    const int32_t *codes;
} Tables;

/* The code of a token, -1 where it is of no code of the level. */
INLINED int64_t
code_of(const Tables *tables, int64_t level, int64_t token)
{
    const uint64_t at = (uint64_t)token - (uint64_t)tables->firsts[level];
    return at < (uint64_t)(tables->starts[level + 1] - tables->starts[level])
               ? tables->codes[tables->starts[level] + (int64_t)at]
               : -1;
}

/* The node that a prefix reaches, of codes or, where there are tables, of tokens. */
INLINED int64_t
node_of(const Trie *trie, const int64_t *prefix, int64_t n_depths, const Tables *tables, int code_size)
{
    int64_t node = 0, low = 0, high = trie->n_items;
    for (int64_t depth = 0; depth < n_depths; depth++) {
        const int64_t wanted = tables ? code_of(tables, depth, prefix[depth]) : prefix[depth];
        const void *codes = codes_of_level(trie, depth, code_size);
        const int is_explicit = depth < trie->n_explicit;
        if (is_explicit) /* the edges of the node, not its ranks */
            child_range(trie, depth, node, &low, &high);
        const int64_t at = count_of(codes, low, high, wanted, code_size);
        if (at == high || (int64_t)code_at(codes, at, code_size) != wanted)
            return -1;
        node = at;
        if (is_explicit)
            node_range(trie, depth + 1, node, &low, &high);
        else { /* items that share a prefix are neighbours, sorted by their next code */
            low = at;
            high = count_of(codes, at, high, wanted + 1, code_size);
        }
    }
    return alive_below(trie, low, high) == 0 ? -1 : node;
}

INLINED void
walk_rows(const Trie *trie, const int64_t *prefixes, int64_t n_rows, int64_t n_depths, int64_t *out, int code_size)
{
    for (int64_t row = 0; row < n_rows; row++)
        out[row] = node_of(trie, prefixes + row * n_depths, n_depths, NULL, code_size);
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

INLINED void
walk_token_rows(const Trie *trie, const int64_t *tokens, int64_t n_rows, int64_t width, int64_t first,
                const Tables *tables, int64_t *out, int code_size)
{
    for (int64_t row = 0; row < n_rows; row++)
        out[row] = node_of(trie, tokens + row * width + first, width - first, tables, code_size);
}

PyObject *
walk_tokens(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    enum { TOKENS = N_TRIE, FIRST, FIRSTS, STARTS, CODES, OUT };
    Arguments arguments;
    if (take_arguments("walk_tokens", TRIE_LAYOUT "q2r n0r q1r q1r d1r q1w", objects, n, &arguments) < 0)
        return NULL;
    const Trie *trie = &arguments.trie;
    const int64_t n_rows = LENGTH(TOKENS, 0), width = LENGTH(TOKENS, 1), first = arguments.numbers[FIRST];
    const Tables tables = {ARRAY(int64_t, FIRSTS), ARRAY(int64_t, STARTS), ARRAY(int32_t, CODES)};
    const int64_t n_levels = LENGTH(FIRSTS, 0);
    if (LENGTH(OUT, 0) != n_rows || first < 0 || first > width || width - first > trie->n_levels
        || width - first > n_levels || LENGTH(STARTS, 0) != n_levels + 1 || !are_starts(tables.starts, n_levels + 1, LENGTH(CODES, 0)))
        return wrong_lengths("walk_tokens", &arguments);
    Py_BEGIN_ALLOW_THREADS
    FOR_CODE_SIZE(trie, walk_token_rows(trie, ARRAY(int64_t, TOKENS), n_rows, width, first, &tables,
                                        ARRAY(int64_t, OUT), CODE_SIZE));
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
    if (LENGTH(OUT, 0) != n_rows || LENGTH(OUT, 1) != 2 || depth < 0 || depth > trie->n_levels
        || !are_nodes(trie, depth, nodes, n_rows))
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
    if (LENGTH(ROW_STARTS, 0) != n_rows + 1 || depth < 0 || depth >= trie->n_levels
        || !are_nodes(trie, depth, ARRAY(int64_t, NODES), n_rows))
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
    if (LENGTH(ROW_STARTS, 0) != n_rows + 1 || !are_starts(ARRAY(int64_t, ROW_STARTS), n_rows + 1, LENGTH(CODES, 0))
        || depth < 0 || depth >= trie->n_levels || !are_nodes(trie, depth, ARRAY(int64_t, NODES), n_rows))
        return wrong_lengths("gather_children", &arguments);
    Py_BEGIN_ALLOW_THREADS
    FOR_CODE_SIZE(trie, gather_rows(trie, depth, ARRAY(int64_t, NODES), n_rows, ARRAY(int64_t, ROW_STARTS),
                                    ARRAY(char, CODES), CODE_SIZE));
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    Py_RETURN_NONE;
}
