/* What a kernel may take: types, axes, and the lengths that a look at lengths and offsets can check. What stands in the
 * long arrays is trusted, and that there is room for a node's children and a token for each code: semid.trie verifies a
 * trie when it is loaded, and its wrappers make the room. */
#include <string.h>

#include "arguments.h"

static const char WRONG[] = "%s got arrays of a wrong type or shape: expected %.3s as argument %d (kind, axes, access; "
                            "q is 8 bytes, d 4, b 1, c a code, * any), got %zd axes of %zd bytes. "
                            "Call it through semid.Trie.";

static int
fits(char kind, Py_ssize_t size, int code_size)
{
    switch (kind) {
    case 'q':
        return size == 8;
    case 'd':
        return size == 4;
    case 'b':
        return size == 1;
    case 'c':
        return size == code_size;
    default:
        return size == 1 || size == 2 || size == 4 || size == 8;
    }
}

void
release_arguments(Arguments *arguments)
{
    for (int i = 0; i < arguments->n; i++)
        if (arguments->views[i].obj)
            PyBuffer_Release(&arguments->views[i]);
    arguments->n = 0;
}

/* Tell whether offsets begin at 0 and rise. */
static int
are_rising(const int64_t *offsets, Py_ssize_t n)
{
    int rise = offsets[0] == 0;
    for (Py_ssize_t at = 1; at < n; at++)
        rise &= offsets[at] > offsets[at - 1];
    return rise;
}

/* Tell whether the arrays of a trie are as long as its offsets and its number of items ask for. */
static int
agree(const Trie *trie, const Py_buffer *views)
{
    const int64_t n_explicit = trie->n_explicit, n_levels = trie->n_levels;
    const int64_t n_items = trie->code_offsets[n_levels] - trie->code_offsets[n_levels - 1];
    const int64_t n_words = (n_items + 63) >> 6;
    if (!are_rising(trie->node_offsets, n_explicit + 2) || !are_rising(trie->code_offsets, n_levels + 1))
        return 0;
    for (int64_t depth = 0; depth <= n_explicit; depth++) { /* each node of a depth but the root is an edge above it */
        const int64_t n_nodes = trie->node_offsets[depth + 1] - trie->node_offsets[depth] - 1;
        if (n_nodes != (depth ? trie->code_offsets[depth] - trie->code_offsets[depth - 1] : 1))
            return 0;
    }
    for (int64_t level = n_explicit; level < n_levels; level++)
        if (trie->code_offsets[level + 1] - trie->code_offsets[level] != n_items)
            return 0;
    return views[0].shape[0] == trie->node_offsets[n_explicit]
           && views[1].shape[0] == trie->node_offsets[n_explicit + 1] && first_of(trie, 1) == n_items
           && views[2].shape[0] == trie->code_offsets[n_levels]
           && views[3].shape[0] == (n_levels - 1 - n_explicit) * n_words
           && (!trie->alive || views[6].shape[0] == (n_items >> 6) + 1);
}

static int
take_trie(const char *kernel, Arguments *arguments)
{
    const Py_buffer *views = arguments->views;
    Trie *trie = &arguments->trie;
    *trie = (Trie){
        .starts = views[0].buf,
        .firsts = views[1].buf,
        .child_codes = views[2].buf,
        .forks = views[3].buf,
        .node_offsets = views[4].buf,
        .code_offsets = views[5].buf,
        .alive = views[6].len ? views[6].buf : NULL,
        .alive_counts = views[7].buf,
        .n_explicit = views[4].shape[0] - 2,
        .n_levels = views[5].shape[0] - 1,
        .is_wide = views[1].itemsize == 8,
        .code_size = (int)views[2].itemsize,
    };
    if ((views[1].itemsize != 4 && views[1].itemsize != 8) || views[0].itemsize != views[1].itemsize
        || trie->code_size == 8) {
        PyErr_Format(PyExc_TypeError,
                     "%s got arrays of a wrong type or shape: expected int32 or int64 starts and firsts, unsigned "
                     "child codes of at most 4 bytes, and int64 offsets, got items of %zd, %zd and %zd bytes. "
                     "Call it through semid.Trie.",
                     kernel, views[0].itemsize, views[1].itemsize, views[2].itemsize);
        return -1;
    }
    if (views[1].shape[0] < 2 || trie->n_explicit < 0 || trie->n_levels <= trie->n_explicit
        || views[6].shape[0] != views[7].shape[0] || !agree(trie, views)) {
        PyErr_Format(PyExc_TypeError,
                     "%s got arrays of a wrong type or shape: expected lengths that agree, nodes of the depth and "
                 "tokens of the vocabulary, got others. "
                     "Call it through semid.Trie.",
                     kernel);
        return -1;
    }
    trie->n_items = first_of(trie, 1);
    return 0;
}

int
take_arguments(const char *kernel, const char *layout, PyObject *const *objects, Py_ssize_t n, Arguments *arguments)
{
    const int n_expected = (int)(strlen(layout) + 1) / 4;
    const int has_trie = strncmp(layout, TRIE_LAYOUT, strlen(TRIE_LAYOUT)) == 0;
    arguments->n = 0;
    if (n != n_expected) {
        PyErr_Format(PyExc_TypeError, "%s got a wrong number of arguments: expected %d, got %zd.", kernel, n_expected,
                     n);
        return -1;
    }
    for (int i = 0; i < n_expected; i++) {
        const char *expected = layout + 4 * i;
        Py_buffer *view = &arguments->views[i];
        if (expected[0] == 'n') {
            view->buf = NULL;
            view->obj = NULL;
            arguments->n = i + 1;
            arguments->numbers[i] = PyLong_AsLongLong(objects[i]);
            if (arguments->numbers[i] == -1 && PyErr_Occurred())
                goto failed;
        }
        else {
            if (PyObject_GetBuffer(objects[i], view, PyBUF_C_CONTIGUOUS | (expected[2] == 'w' ? PyBUF_WRITABLE : 0)))
                goto failed;
            arguments->n = i + 1;
            if (view->ndim != expected[1] - '0'
                || !fits(expected[0], view->itemsize, has_trie ? arguments->trie.code_size : 0)) {
                PyErr_Format(PyExc_TypeError, WRONG, kernel, expected, i, (Py_ssize_t)view->ndim, view->itemsize);
                goto failed;
            }
        }
        if (has_trie && i == N_TRIE - 1 && take_trie(kernel, arguments) < 0)
            goto failed;
    }
    return 0;
failed:
    release_arguments(arguments);
    return -1;
}

int
are_starts(const int64_t *starts, int64_t n, int64_t last)
{
    int fit = starts[0] >= 0 && starts[n - 1] <= last;
    for (int64_t at = 1; at < n; at++)
        fit &= starts[at] >= starts[at - 1];
    return fit;
}

PyObject *
wrong_lengths(const char *kernel, Arguments *arguments)
{
    release_arguments(arguments);
    PyErr_Format(PyExc_TypeError,
                 "%s got arrays of a wrong type or shape: expected lengths that agree, nodes of the depth and "
                 "tokens of the vocabulary, got others. "
                 "Call it through semid.Trie.",
                 kernel);
    return NULL;
}
