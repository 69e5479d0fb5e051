/* What a kernel may take: checked here is only what would otherwise read or write outside of a buffer. */
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
        || views[1].shape[0] < 2 || trie->code_size == 8 || trie->n_explicit < 0 || trie->n_levels < 1
        || views[6].shape[0] != views[7].shape[0]) {
        PyErr_Format(PyExc_TypeError,
                     "%s got arrays of a wrong type or shape: expected int32 or int64 starts and firsts, unsigned "
                     "child codes of at most 4 bytes, and int64 offsets, got items of %zd, %zd and %zd bytes. "
                     "Call it through semid.Trie.",
                     kernel, views[0].itemsize, views[1].itemsize, views[2].itemsize);
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

PyObject *
wrong_lengths(const char *kernel, Arguments *arguments)
{
    release_arguments(arguments);
    PyErr_Format(PyExc_TypeError,
                 "%s got arrays of a wrong type or shape: expected lengths that agree, got others. "
                 "Call it through semid.Trie.",
                 kernel);
    return NULL;
}
