/* The kernels of semid.kernels again, in C: no JIT pause, no threading layer.
 *
 * Every function takes the arrays of the Numba kernel of the same name, in the same order, through the buffer protocol
 * (so neither NumPy's headers nor torch's are needed), and releases the GIL. The Python wrapper has checked shapes and
 * ranges; what is checked here is only what would otherwise read or write outside a buffer's type.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* One buffer argument; `writable` buffers fail on read-only memory. */
static int
take(PyObject *object, Py_buffer *view, int writable)
{
    return PyObject_GetBuffer(object, view, (writable ? PyBUF_WRITABLE : 0) | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT);
}

static void
release_all(Py_buffer *views, int n)
{
    for (int i = 0; i < n; i++)
        PyBuffer_Release(&views[i]);
}

/* walk(starts, child_codes, start_offsets, code_offsets, prefixes, out) for one pair of types. */
#define DEFINE_WALK(NAME, START, CODE)                                                                              \
    static void NAME(const START *starts, const CODE *child_codes, const int64_t *start_offsets,                    \
                     const int64_t *code_offsets, const int64_t *prefixes, int64_t *out, Py_ssize_t n_rows,         \
                     Py_ssize_t depth)                                                                              \
    {                                                                                                               \
        for (Py_ssize_t row = 0; row < n_rows; row++) {                                                             \
            int64_t node = 0;                                                                                       \
            for (Py_ssize_t d = 0; d < depth; d++) {                                                                \
                const int64_t wanted = prefixes[row * depth + d];                                                   \
                const START *own = starts + start_offsets[d] + node;                                                \
                const CODE *codes = child_codes + code_offsets[d];                                                  \
                const int64_t end = (int64_t)own[1];                                                                \
                int64_t low = (int64_t)own[0], high = end;                                                          \
                while (low < high) { /* children are sorted by code */                                              \
                    const int64_t middle = (low + high) >> 1;                                                       \
                    if ((int64_t)codes[middle] < wanted)                                                            \
                        low = middle + 1;                                                                           \
                    else                                                                                            \
                        high = middle;                                                                              \
                }                                                                                                   \
                if (low == end || (int64_t)codes[low] != wanted) {                                                  \
                    node = -1;                                                                                      \
                    break;                                                                                          \
                }                                                                                                   \
                node = low;                                                                                         \
            }                                                                                                       \
            out[row] = node;                                                                                        \
        }                                                                                                           \
    }

DEFINE_WALK(walk_32_8, int32_t, uint8_t)
DEFINE_WALK(walk_32_16, int32_t, uint16_t)
DEFINE_WALK(walk_32_32, int32_t, uint32_t)
DEFINE_WALK(walk_64_8, int64_t, uint8_t)
DEFINE_WALK(walk_64_16, int64_t, uint16_t)
DEFINE_WALK(walk_64_32, int64_t, uint32_t)

static PyObject *
walk(PyObject *Py_UNUSED(module), PyObject *args)
{
    enum { STARTS, CODES, START_OFFSETS, CODE_OFFSETS, PREFIXES, OUT, N };
    PyObject *objects[N];
    Py_buffer views[N];

    if (!PyArg_UnpackTuple(args, "walk", N, N, &objects[0], &objects[1], &objects[2], &objects[3], &objects[4],
                           &objects[5]))
        return NULL;
    for (int i = 0; i < N; i++)
        if (take(objects[i], &views[i], i == OUT) < 0) {
            release_all(views, i);
            return NULL;
        }

    const Py_ssize_t start_size = views[STARTS].itemsize, code_size = views[CODES].itemsize;
    const int known = (start_size == 4 || start_size == 8) && (code_size == 1 || code_size == 2 || code_size == 4)
                      && views[START_OFFSETS].itemsize == 8 && views[CODE_OFFSETS].itemsize == 8
                      && views[PREFIXES].itemsize == 8 && views[PREFIXES].ndim == 2 && views[OUT].itemsize == 8
                      && views[OUT].ndim == 1 && views[OUT].shape[0] == views[PREFIXES].shape[0];
    if (!known) {
        release_all(views, N);
        PyErr_SetString(PyExc_TypeError, "walk got arrays of a wrong type or shape: expected int32 or int64 starts, "
                                         "unsigned child codes, int64 offsets, prefixes (rows, depth) and out (rows).");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
#define RUN(NAME, START, CODE)                                                                                      \
    NAME((const START *)views[STARTS].buf, (const CODE *)views[CODES].buf,                                          \
         (const int64_t *)views[START_OFFSETS].buf, (const int64_t *)views[CODE_OFFSETS].buf,                       \
         (const int64_t *)views[PREFIXES].buf, (int64_t *)views[OUT].buf, views[PREFIXES].shape[0],                 \
         views[PREFIXES].shape[1])
    if (start_size == 4) {
        if (code_size == 1)
            RUN(walk_32_8, int32_t, uint8_t);
        else if (code_size == 2)
            RUN(walk_32_16, int32_t, uint16_t);
        else
            RUN(walk_32_32, int32_t, uint32_t);
    }
    else {
        if (code_size == 1)
            RUN(walk_64_8, int64_t, uint8_t);
        else if (code_size == 2)
            RUN(walk_64_16, int64_t, uint16_t);
        else
            RUN(walk_64_32, int64_t, uint32_t);
    }
#undef RUN
    Py_END_ALLOW_THREADS
    release_all(views, N);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"walk", walk, METH_VARARGS, "Write the node that each prefix reaches, -1 where no item starts so."},
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
