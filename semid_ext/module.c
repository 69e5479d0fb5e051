/* The kernels of semid.kernels again, in C: no JIT pause, no threading layer.
 *
 * Every function takes the arrays of the Numba kernel of the same name, in the same order, releases the GIL, and writes
 * the same bits. The Python wrapper has checked ranges; arguments.c checks the types and the axes.
 */
#include "arguments.h"

#define KERNEL(name, function, doc) {name, (PyCFunction)(void (*)(void))function, METH_FASTCALL, doc}

static PyMethodDef methods[] = {
    KERNEL("walk", walk, "Write the node that each prefix reaches, -1 where no item starts so."),
    KERNEL("walk_tokens", walk_tokens, "Write the node that each row of tokens reaches, -1 where no item starts so."),
    KERNEL("ranges", ranges, "Write the first rank below each node and the one behind the last."),
    KERNEL("count_children", count_children, "Write where each row's children begin."),
    KERNEL("gather_children", gather_children, "Write the codes of each node's children."),
    KERNEL("mask_inplace", mask_inplace, "Overwrite the scores that lead to no item."),
    KERNEL("fill_bitmask", fill_bitmask, "Write the tokens that lead to an item as bits."),
    KERNEL("select", select_children, "Write the best children over all beams of each request."),
    KERNEL("count_keys", count_keys, "Write where the keys of each bucket begin."),
    KERNEL("scatter_keys", scatter_keys, "Write each row's key into its bucket."),
    KERNEL("sort_keys", sort_keys, "Sort the keys of each bucket."),
    KERNEL("sort_ties", sort_ties, "Sort rows whose keys are equal by the levels that are not in a key."),
    KERNEL("drop_repeats", drop_repeats, "Keep one of each row, and count what opens an edge at each level."),
    KERNEL("fill_levels", fill_levels, "Write sorted keys into the arrays of a trie."),
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef core = {
    PyModuleDef_HEAD_INIT, "semid_ext._core", "Compiled kernels of semid.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModule_Create(&core);
}
