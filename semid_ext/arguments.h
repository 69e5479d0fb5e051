/* Arrays from Python, through the buffer protocol: neither NumPy's headers nor torch's are needed. */
#ifndef SEMID_ARGUMENTS_H
#define SEMID_ARGUMENTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#include "nodes.h"

/* Functions of the module that live in other files than module.c; none is visible outside of it. */
#if defined(__GNUC__)
#define INTERNAL __attribute__((visibility("hidden")))
#else
#define INTERNAL
#endif

enum { N_TRIE = 8, MOST_ARGUMENTS = 24 };

typedef struct {
    Py_buffer views[MOST_ARGUMENTS]; /* an argument that is a number has no view: buf is NULL */
    int64_t numbers[MOST_ARGUMENTS];
    int n;
    Trie trie; /* of the first N_TRIE arguments, for kernels that take one */
} Arguments;

/* Take the arguments of a kernel as `layout` says, three characters and a blank for each: what an element is (q 8
 * bytes, d 4, b 1, c as many as a code of the trie, * 1, 2, 4 or 8; n is a number instead of an array), the number of
 * axes, and r or w for memory that is read or written. Sets an exception and returns -1 where an argument differs. */
INTERNAL int take_arguments(const char *kernel, const char *layout, PyObject *const *objects, Py_ssize_t n,
                            Arguments *arguments);
INTERNAL void release_arguments(Arguments *arguments);

/* Tell whether `n` values begin at 0 or above, do not fall, and end at `last` or below. */
INTERNAL int are_starts(const int64_t *starts, int64_t n, int64_t last);

/* Release everything and say that lengths disagree; returns NULL. */
INTERNAL PyObject *wrong_lengths(const char *kernel, Arguments *arguments);

/* What the eight arrays of a trie look like; see nodes.h. */
#define TRIE_LAYOUT "*1r *1r *1r q1r q1r q1r q1r q1r "

/* Array i of the arguments, and its length along an axis. */
#define ARRAY(TYPE, i) ((TYPE *)arguments.views[i].buf)
#define LENGTH(i, axis) ((int64_t)arguments.views[i].shape[axis])

/* The kernels: what module.c lists. */
typedef PyObject *kernel(PyObject *module, PyObject *const *objects, Py_ssize_t n);
INTERNAL kernel walk, walk_tokens, ranges, count_children, gather_children, mask_inplace, fill_bitmask, select_children,
    count_keys, scatter_keys, sort_keys, sort_ties, drop_repeats, fill_levels;

#endif
