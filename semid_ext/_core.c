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

/* First position in the sorted codes[low .. high - 1] that is not below `wanted`. */
#define DEFINE_COUNT_BELOW(CODE)                                                                                    \
    static int64_t count_below_##CODE(const CODE *codes, int64_t low, int64_t high, int64_t wanted)                 \
    {                                                                                                               \
        while (low < high) {                                                                                        \
            const int64_t middle = (low + high) >> 1;                                                               \
            if ((int64_t)codes[middle] < wanted)                                                                    \
                low = middle + 1;                                                                                   \
            else                                                                                                    \
                high = middle;                                                                                      \
        }                                                                                                           \
        return low;                                                                                                 \
    }

DEFINE_COUNT_BELOW(uint8_t)
DEFINE_COUNT_BELOW(uint16_t)
DEFINE_COUNT_BELOW(uint32_t)

static int64_t
popcount(uint64_t bits)
{
    bits -= (bits >> 1) & UINT64_C(0x5555555555555555);
    bits = (bits & UINT64_C(0x3333333333333333)) + ((bits >> 2) & UINT64_C(0x3333333333333333));
    return (int64_t)((((bits + (bits >> 4)) & UINT64_C(0x0F0F0F0F0F0F0F0F)) * UINT64_C(0x0101010101010101)) >> 56);
}

/* How many ranks below `rank` are alive; `alive` has a word for it. */
static int64_t
alive_before(const uint64_t *alive, const int64_t *alive_counts, int64_t rank)
{
    return alive_counts[rank >> 6] + popcount(alive[rank >> 6] & ~(~UINT64_C(0) << (rank & 63)));
}

/* walk of semid/kernels/walk.py for one pair of types; semid/kernels/nodes.py says what the arrays mean. */
#define DEFINE_WALK(NAME, START, CODE)                                                                              \
    static void NAME(const START *starts, const START *firsts, const CODE *child_codes,                             \
                     const int64_t *node_offsets, int64_t n_explicit, const int64_t *code_offsets,                  \
                     const uint64_t *alive, const int64_t *alive_counts, const int64_t *prefixes, int64_t *out,     \
                     Py_ssize_t n_rows, Py_ssize_t n_depths)                                                        \
    {                                                                                                               \
        for (Py_ssize_t row = 0; row < n_rows; row++) {                                                             \
            int64_t node = 0, low = 0, high = (int64_t)firsts[1];                                                   \
            for (Py_ssize_t depth = 0; depth < n_depths; depth++) {                                                 \
                const int64_t wanted = prefixes[row * n_depths + depth];                                            \
                const CODE *codes = child_codes + code_offsets[depth];                                              \
                const int is_explicit = depth < n_explicit;                                                         \
                if (is_explicit) { /* the edges of the node, not its ranks */                                       \
                    low = (int64_t)starts[node_offsets[depth] + node];                                              \
                    high = (int64_t)starts[node_offsets[depth] + node + 1];                                         \
                }                                                                                                   \
                const int64_t at = count_below_##CODE(codes, low, high, wanted);                                    \
                if (at == high || (int64_t)codes[at] != wanted) {                                                   \
                    node = -1;                                                                                      \
                    break;                                                                                          \
                }                                                                                                   \
                node = at;                                                                                          \
                if (is_explicit) {                                                                                  \
                    low = (int64_t)firsts[node_offsets[depth + 1] + node];                                          \
                    high = (int64_t)firsts[node_offsets[depth + 1] + node + 1];                                     \
                }                                                                                                   \
                else {                                                                                              \
                    low = at;                                                                                       \
                    high = count_below_##CODE(codes, at, high, wanted + 1);                                         \
                }                                                                                                   \
            }                                                                                                       \
            if (node >= 0 && alive                                                                                  \
                && alive_before(alive, alive_counts, high) == alive_before(alive, alive_counts, low))               \
                node = -1;                                                                                          \
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
    enum { STARTS, FIRSTS, CODES, FORKS, NODE_OFFSETS, CODE_OFFSETS, ALIVE, ALIVE_COUNTS, PREFIXES, OUT, N };
    PyObject *objects[N];
    Py_buffer views[N];

    if (!PyArg_UnpackTuple(args, "walk", N, N, &objects[0], &objects[1], &objects[2], &objects[3], &objects[4],
                           &objects[5], &objects[6], &objects[7], &objects[8], &objects[9]))
        return NULL;
    for (int i = 0; i < N; i++)
        if (take(objects[i], &views[i], i == OUT) < 0) {
            release_all(views, i);
            return NULL;
        }

    const Py_ssize_t start_size = views[STARTS].itemsize, code_size = views[CODES].itemsize;
    const int known = (start_size == 4 || start_size == 8) && views[FIRSTS].itemsize == start_size
                      && (code_size == 1 || code_size == 2 || code_size == 4) && views[NODE_OFFSETS].itemsize == 8
                      && views[CODE_OFFSETS].itemsize == 8 && views[ALIVE].itemsize == 8
                      && views[ALIVE_COUNTS].itemsize == 8 && views[PREFIXES].itemsize == 8
                      && views[PREFIXES].ndim == 2 && views[OUT].itemsize == 8 && views[OUT].ndim == 1
                      && views[OUT].shape[0] == views[PREFIXES].shape[0];
    if (!known) {
        release_all(views, N);
        PyErr_SetString(PyExc_TypeError, "walk got arrays of a wrong type or shape: expected int32 or int64 starts, "
                                         "unsigned child codes, int64 offsets, prefixes (rows, depth) and out (rows).");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
#define RUN(NAME, START, CODE)                                                                                      \
    NAME((const START *)views[STARTS].buf, (const START *)views[FIRSTS].buf, (const CODE *)views[CODES].buf,        \
         (const int64_t *)views[NODE_OFFSETS].buf, views[NODE_OFFSETS].shape[0] - 2,                                \
         (const int64_t *)views[CODE_OFFSETS].buf,                                                                  \
         views[ALIVE].len ? (const uint64_t *)views[ALIVE].buf : NULL, (const int64_t *)views[ALIVE_COUNTS].buf,    \
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
