/* From sorted distinct keys to the arrays of a trie; semid/kernels/build.py. */
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "keys.h"
#include "keys_arguments.h"

/* Items that are written at a time: what is known of them stays in the first-level cache. A multiple of 64. */
enum { PIECE = 512 };
/* Neighbours that are counted apart: their bits often belong in one word, which one would have to wait for. */
enum { STRANDS = 4 };

typedef struct {
    Keys keys;
    int64_t n_explicit, n_words;
    const int64_t *node_offsets, *code_offsets;
    void *starts, *firsts, *child_codes;
    uint64_t *forks;
    int pointer_size, out_size;
    int64_t *edges;  /* written so far, per level */
    uint64_t *opens; /* per strand and level, the bits of the 64 ranks that open an edge there */
    /* Of a piece. */
    int64_t first, n, bucket;
    uint64_t before; /* the prefix and the row of the item before the piece */
    int64_t row_before;
    uint64_t prefixes[PIECE];
    uint32_t rows[PIECE], forked[PIECE]; /* the level at which an item leaves the one before */
} Build;

INLINED uint64_t
code_of(const Build *build, int64_t at, int64_t level, int shift, int code_size)
{
    const Keys *keys = &build->keys;
    if (level < keys->n_key)
        return low_bits(build->prefixes[at] >> shift, (int)keys->bits[level]);
    return number_at(keys->codes, (int64_t)build->rows[at] * keys->n_levels + level, code_size);
}

/* The bits of a prefix that are below a level's. */
INLINED int
shift_of(const Keys *keys, int64_t level)
{
    int shift = 0;
    for (int64_t below = keys->n_key - 1; below > level; below--)
        shift += (int)keys->bits[below];
    return shift;
}

/* The prefixes and rows of a piece, from the bucket on at which the one before it ended. */
INLINED void
read_piece(Build *build, int is_whole, int key_size, int code_size)
{
    const Keys *keys = &build->keys;
    const int64_t first = build->first, n_items = keys->n_rows;
    int64_t bucket = build->bucket, rank = first, end = n_items - first < PIECE ? n_items : first + PIECE;
    build->n = end - first;
    while (rank < end) {
        const int64_t last = keys->ends[bucket] < end ? keys->ends[bucket] : end;
        const uint64_t base = bucket_base(bucket, keys->n_low);
        for (; rank < last; rank++) {
            const uint64_t number = number_at(keys->keys, rank, key_size);
            build->prefixes[rank - first] = base | (is_whole ? number : number >> keys->n_position);
            if (!is_whole) {
                const uint32_t row = (uint32_t)low_bits(number, keys->n_position);
                build->rows[rank - first] = row;
                PREFETCH((const char *)keys->codes + (row * keys->n_levels + keys->n_key) * code_size);
            }
        }
        bucket += rank < end;
    }
    build->bucket = bucket;
    for (int64_t at = 0; at < build->n; at++) {
        const uint64_t prefix = build->prefixes[at];
        const int64_t row = is_whole ? 0 : build->rows[at];
        const int64_t level = first + at == 0 ? 0 : fork_level(keys, prefix, build->before, row, build->row_before,
                                                               is_whole, code_size);
        build->forked[at] = (uint32_t)level;
        build->before = prefix;
        build->row_before = row;
    }
}

INLINED void
put_pointer(void *pointers, int64_t at, int64_t value, int size)
{
    if (size == 8)
        ((int64_t *)pointers)[at] = value;
    else
        ((int32_t *)pointers)[at] = (int32_t)value;
}

/* Write the edges that an item opens in explicit levels. */
INLINED void
open_edges(Build *build, int64_t at, int code_size)
{
    const int64_t rank = build->first + at, level = build->forked[at];
    for (int64_t below = level; below < build->n_explicit; below++) {
        const int64_t edge = build->edges[below]++, node = below ? build->edges[below - 1] - 1 : 0;
        if (below > level || rank == 0) /* the edge above opened a new node here */
            put_pointer(build->starts, build->node_offsets[below] + node, edge, build->pointer_size);
        put_pointer(build->firsts, build->node_offsets[below + 1] + edge, rank, build->pointer_size);
        put_number(build->child_codes, build->code_offsets[below] + edge,
                   code_of(build, at, below, shift_of(&build->keys, below), code_size), build->out_size);
    }
}

INLINED void
write_forks(Build *build, int code_size)
{
    const int64_t n_levels = build->keys.n_levels, n_explicit = build->n_explicit;
    uint64_t *opens = build->opens;
    for (int64_t at = 0; at < build->n; at += 64) {
        const int64_t n = build->n - at < 64 ? build->n - at : 64;
        memset(opens, 0, (size_t)(STRANDS * n_levels) * sizeof *opens);
        for (int64_t bit = 0; bit < n; bit++)
            opens[bit % STRANDS * n_levels + build->forked[at + bit]] |= UINT64_C(1) << bit;
        for (int64_t level = 0; level < n_levels; level++) {
            for (int64_t strand = 1; strand < STRANDS; strand++)
                opens[level] |= opens[strand * n_levels + level];
            if (level) /* what opens an edge opens one on every later level */
                opens[level] |= opens[level - 1];
        }
        for (int64_t level = n_explicit; level < n_levels - 1; level++)
            build->forks[(level - n_explicit) * build->n_words + (build->first + at) / 64] = opens[level];
        if (n_explicit)
            for (uint64_t left = opens[n_explicit - 1]; left; left &= left - 1)
                open_edges(build, at + lowest_bit(left), code_size);
    }
}

INLINED void
write_flat_codes(Build *build, int out_size, int code_size)
{
    const Keys *keys = &build->keys;
    for (int64_t level = build->n_explicit; level < keys->n_levels; level++) {
        char *out = (char *)build->child_codes + (build->code_offsets[level] + build->first) * out_size;
        const int shift = shift_of(keys, level);
        if (level < keys->n_key) { /* what is written could be what is read, for all that a compiler sees in a struct */
            const uint64_t *prefixes = build->prefixes, mask = low_bits(~UINT64_C(0), (int)keys->bits[level]);
            const int64_t n = build->n;
            for (int64_t at = 0; at < n; at++)
                put_number(out, at, prefixes[at] >> shift & mask, out_size);
        }
        else
            for (int64_t at = 0; at < build->n; at++)
                put_number(out, at, code_of(build, at, level, 0, code_size), out_size);
    }
}

INLINED void
build_pieces(Build *build, int is_whole, int key_size, int code_size)
{
    for (build->first = 0; build->first < build->keys.n_rows; build->first += PIECE) {
        read_piece(build, is_whole, key_size, code_size);
        write_forks(build, code_size);
        FOR_SIZE(build->out_size, write_flat_codes(build, SIZE, code_size));
    }
}

PyObject *
fill_levels(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    enum { N_EXPLICIT = KEYS + 1, STARTS, FIRSTS, NODE_OFFSETS, CHILD_CODES, CODE_OFFSETS, FORKS };
    Arguments arguments;
    Build build = {0};
    if (take_arguments("fill_levels", KEYS_LAYOUT " *1w n0r *1w *1w q1r *1w q1r q1w", objects, n, &arguments) < 0)
        return NULL;
    Keys *keys = &build.keys;
    const int64_t n_explicit = arguments.numbers[N_EXPLICIT];
    const Py_ssize_t pointer_size = arguments.views[STARTS].itemsize;
    if (take_keys(&arguments, keys) < 0 || n_explicit < 0 || n_explicit >= keys->n_levels
        || (pointer_size != 4 && pointer_size != 8) || arguments.views[FIRSTS].itemsize != pointer_size
        || arguments.views[CHILD_CODES].itemsize == 8 || LENGTH(NODE_OFFSETS, 0) != n_explicit + 2
        || LENGTH(CODE_OFFSETS, 0) != keys->n_levels + 1 || keys->ends[keys->n_buckets - 1] > LENGTH(KEYS, 0))
        return wrong_lengths("fill_levels", &arguments);
    keys->n_rows = keys->ends[keys->n_buckets - 1]; /* items now: repeated rows have gone */
    build.n_explicit = n_explicit;
    build.n_words = (keys->n_rows + 63) / 64;
    build.node_offsets = ARRAY(int64_t, NODE_OFFSETS);
    build.code_offsets = ARRAY(int64_t, CODE_OFFSETS);
    build.starts = ARRAY(void, STARTS);
    build.firsts = ARRAY(void, FIRSTS);
    build.child_codes = ARRAY(void, CHILD_CODES);
    build.forks = ARRAY(uint64_t, FORKS);
    build.pointer_size = (int)pointer_size;
    build.out_size = (int)arguments.views[CHILD_CODES].itemsize;
    if (build.code_offsets[keys->n_levels] != LENGTH(CHILD_CODES, 0)
        || build.node_offsets[n_explicit] != LENGTH(STARTS, 0)
        || build.node_offsets[n_explicit + 1] != LENGTH(FIRSTS, 0)
        || (keys->n_levels - 1 - n_explicit) * build.n_words != LENGTH(FORKS, 0))
        return wrong_lengths("fill_levels", &arguments);

    Py_BEGIN_ALLOW_THREADS
    build.edges = calloc((size_t)keys->n_levels, sizeof *build.edges);
    build.opens = calloc((size_t)(STRANDS * keys->n_levels), sizeof *build.opens);
    if (build.edges && build.opens) {
        if (keys->n_position)
            FOR_SIZE(keys->code_size, build_pieces(&build, 0, 8, SIZE));
        else if (keys->key_size == 2)
            build_pieces(&build, 1, 2, 1);
        else if (keys->key_size == 4)
            build_pieces(&build, 1, 4, 1);
        else
            build_pieces(&build, 1, 8, 1);
    }
    Py_END_ALLOW_THREADS
    const int failed = !build.edges || !build.opens;
    free(build.edges);
    free(build.opens);
    release_arguments(&arguments);
    if (failed)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}
