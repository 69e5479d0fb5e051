/* What may follow a node, as a mask over a language model's vocabulary, of scores or of bits; semid/kernels/mask.py. */
#include <string.h>

#include "arguments.h"
#include "vectors.h"

/* Scores of so many bytes leave the caches before anybody reads them: they are written around the caches, which need
 * not read the memory first then (194 MB: 5.5 ms instead of 6.7). */
enum { STREAMED_BYTES = 1 << 25 };
/* Bytes that a cache holds together, and of how many a row's scores are fetched ahead. */
enum { LINE = 64, MOST_FETCHED = 32 * LINE };

/* The bits of a score. */
INLINED uint64_t
score_at(const char *scores, int64_t at, int size)
{
    uint64_t score = 0;
    memcpy(&score, scores + at * size, (size_t)size);
    return score;
}

/* Fill columns of a row with one value, one after the other. */
INLINED void
fill_few(char *row, int64_t first, int64_t last, const void *value, int size)
{
    const uint64_t score = score_at(value, 0, size); /* in a register: it is no part of the row */
    for (; first < last; first++)
        memcpy(row + first * size, &score, (size_t)size);
}

#if defined(HAS_SSE2)
/* Fill whole lines with half of one that repeats, into the caches or around them. */
#if defined(HAS_AVX2)
AVX2 static inline void
fill_lines_avx2(char *lines, int64_t n_lines, const char *pattern, int is_streamed)
{
    const __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)pattern);
    if (is_streamed)
        for (char *end = lines + n_lines * LINE; lines < end; lines += LINE) {
            _mm256_stream_si256((__m256i *)(void *)lines, half);
            _mm256_stream_si256((__m256i *)(void *)(lines + LINE / 2), half);
        }
    else
        for (char *end = lines + n_lines * LINE; lines < end; lines += LINE) {
            _mm256_store_si256((__m256i *)(void *)lines, half);
            _mm256_store_si256((__m256i *)(void *)(lines + LINE / 2), half);
        }
}
#endif

INLINED void
fill_lines(char *lines, int64_t n_lines, const char *pattern, int is_streamed)
{
#if defined(HAS_AVX2)
    if (has_avx2()) { /* a tenth faster */
        fill_lines_avx2(lines, n_lines, pattern, is_streamed);
        return;
    }
#endif
    const __m128i quarter = _mm_loadu_si128((const __m128i *)(const void *)pattern);
    for (char *end = lines + n_lines * LINE; lines < end; lines += LINE)
        for (int at = 0; at < LINE; at += LINE / 4)
            if (is_streamed)
                _mm_stream_si128((__m128i *)(void *)(lines + at), quarter);
            else
                _mm_store_si128((__m128i *)(void *)(lines + at), quarter);
}
#endif

/* Fill columns of a row; what is written around the caches needs end_streams behind it. */
INLINED void
fill_columns(char *row, int64_t first, int64_t last, const void *value, int is_streamed, int size)
{
#if defined(HAS_SSE2)
    const int64_t n_before = (int64_t)((LINE - (uintptr_t)(row + first * size) % LINE) % LINE); /* a line's begin */
    const int64_t n_lines = ((last - first) * size - n_before) / LINE;
    if (n_before % size == 0 && n_lines > 0) {
        char pattern[LINE / 2];
        fill_few(pattern, 0, LINE / 2 / size, value, size);
        fill_few(row, first, first + n_before / size, value, size);
        fill_lines(row + first * size + n_before, n_lines, pattern, is_streamed);
        first += (n_before + n_lines * LINE) / size;
    }
#else
    (void)is_streamed;
#endif
    fill_few(row, first, last, value, size);
}

/* Let other threads see what was written around the caches. */
INLINED void
end_streams(void)
{
#if defined(HAS_SSE2)
    _mm_sfence();
#endif
}

typedef struct {
    Trie trie;
    int64_t depth, lost_token, n_rows, width, n_codes;
    const int64_t *nodes, *tokens;
    const void *neg_inf;
    char *scores, *kept;
    void *room;
    uint8_t *empty;
    int64_t first, last; /* the tokens of the level are among these columns */
    int are_all;         /* and they are all of these columns, in order */
    int is_streamed;
} Mask;

static void
find_window(Mask *mask)
{
    mask->first = mask->width;
    mask->last = 0;
    mask->are_all = 1;
    for (int64_t code = 0; code < mask->n_codes; code++) {
        const int64_t token = mask->tokens[code];
        mask->are_all &= token == mask->tokens[0] + code;
        mask->first = token < mask->first ? token : mask->first;
        mask->last = token >= mask->last ? token + 1 : mask->last;
    }
}

/* Leave one score, or none, to a row that has left the trie; returns whether it is minus infinity. */
INLINED int
mask_lost_row(const Mask *mask, char *row, int size)
{
    const uint64_t neg_inf = score_at(mask->neg_inf, 0, size);
    const uint64_t score = mask->lost_token < 0 ? neg_inf : score_at(row, mask->lost_token, size);
    fill_columns(row, 0, mask->width, mask->neg_inf, mask->is_streamed, size);
    if (mask->lost_token >= 0)
        memcpy(row + mask->lost_token * size, &score, (size_t)size);
    return score == neg_inf;
}

/* Leave its children's scores to a row; returns whether all are minus infinity. */
INLINED int
mask_row(const Mask *mask, char *row, int64_t node, int code_size, int size)
{
    const int64_t first = mask->first, last = mask->last, *tokens = mask->tokens;
    const int64_t n_lines = (last - first) * size / LINE + 1;
    const uint64_t neg_inf = score_at(mask->neg_inf, 0, size);
    int64_t n, is_empty = 1;
    const void *codes = find_codes(&mask->trie, mask->depth, node, mask->room, &n, code_size);
    for (int64_t child = 0; child < n; child++) {
        const uint64_t score = score_at(row, tokens[code_at(codes, child, code_size)], size);
        memcpy(mask->kept + child * size, &score, (size_t)size);
        is_empty &= score == neg_inf;
    }
    if (mask->is_streamed && 4 * n >= n_lines) {
        /* Most of the window's lines have been read and are in a cache: they are written there. */
        fill_columns(row, 0, first, mask->neg_inf, 1, size);
        fill_columns(row, last, mask->width, mask->neg_inf, 1, size);
        if (mask->are_all && n == mask->n_codes)
            return (int)is_empty;
        fill_columns(row, first, last, mask->neg_inf, 0, size);
    }
    else
        fill_columns(row, 0, mask->width, mask->neg_inf, mask->is_streamed, size);
    for (int64_t child = 0; child < n; child++)
        memcpy(row + tokens[code_at(codes, child, code_size)] * size, mask->kept + child * size, (size_t)size);
    return (int)is_empty;
}

/* Fetch what the next rows will read: the memory is busy with this row meanwhile. */
INLINED void
fetch_ahead(const Mask *mask, int64_t at, int code_size, int size)
{
    if (at + 2 < mask->n_rows && mask->nodes[at + 2] >= 0)
        fetch_pointers(&mask->trie, mask->depth, mask->nodes[at + 2]);
    if (at + 1 < mask->n_rows && mask->nodes[at + 1] >= 0) {
        fetch_codes(&mask->trie, mask->depth, mask->nodes[at + 1], code_size);
        const char *window = mask->scores + ((at + 1) * mask->width + mask->first) * size;
        for (int64_t byte = 0; byte < (mask->last - mask->first) * size && byte < MOST_FETCHED; byte += LINE)
            PREFETCH(window + byte);
    }
}

INLINED void
mask_rows(const Mask *mask, int code_size, int size)
{
    for (int64_t at = 0; at < mask->n_rows; at++) {
        fetch_ahead(mask, at, code_size, size);
        char *row = mask->scores + at * mask->width * size;
        mask->empty[at] = (uint8_t)(mask->nodes[at] < 0 ? mask_lost_row(mask, row, size)
                                                        : mask_row(mask, row, mask->nodes[at], code_size, size));
    }
    end_streams();
}

PyObject *
mask_inplace(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    enum { DEPTH = N_TRIE, NODES, TOKENS, LOST_TOKEN, NEG_INF, SCORES, CODES, KEPT, EMPTY };
    Arguments arguments;
    if (take_arguments("mask_inplace", TRIE_LAYOUT "n0r q1r q1r n0r *0r *2w c1w *1w b1w", objects, n, &arguments) < 0)
        return NULL;
    Mask mask = {
        .trie = arguments.trie,
        .depth = arguments.numbers[DEPTH],
        .lost_token = arguments.numbers[LOST_TOKEN],
        .n_rows = LENGTH(SCORES, 0),
        .width = LENGTH(SCORES, 1),
        .n_codes = LENGTH(TOKENS, 0),
        .nodes = ARRAY(int64_t, NODES),
        .tokens = ARRAY(int64_t, TOKENS),
        .neg_inf = ARRAY(void, NEG_INF),
        .scores = ARRAY(char, SCORES),
        .kept = ARRAY(char, KEPT),
        .room = ARRAY(void, CODES),
        .empty = ARRAY(uint8_t, EMPTY),
    };
    const Py_ssize_t size = arguments.views[SCORES].itemsize;
    if (LENGTH(NODES, 0) != mask.n_rows || LENGTH(EMPTY, 0) != mask.n_rows || arguments.views[NEG_INF].itemsize != size
        || arguments.views[KEPT].itemsize != size || mask.depth < 0 || mask.depth >= mask.trie.n_levels
        || mask.lost_token >= mask.width || LENGTH(CODES, 0) < mask.n_codes || LENGTH(KEPT, 0) < mask.n_codes
        || !are_nodes(&mask.trie, mask.depth, mask.nodes, mask.n_rows))
        return wrong_lengths("mask_inplace", &arguments);
    mask.is_streamed = mask.n_rows * mask.width * size >= STREAMED_BYTES;
    find_window(&mask);
    if (mask.n_codes && (mask.first < 0 || mask.last > mask.width))
        return wrong_lengths("mask_inplace", &arguments);
    Py_BEGIN_ALLOW_THREADS
#define RUN(SIZE) FOR_CODE_SIZE(&mask.trie, mask_rows(&mask, CODE_SIZE, SIZE))
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
          int64_t n_rows, int64_t n_words, void *room, int code_size)
{
    for (int64_t row = 0; row < n_rows; row++) {
        uint32_t *bits = bitmask + row * n_words;
        memset(bits, 0, (size_t)n_words * sizeof *bits);
        if (nodes[row] < 0)
            continue;
        int64_t n;
        const void *codes = find_codes(trie, depth, nodes[row], room, &n, code_size);
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
    if (LENGTH(NODES, 0) != n_rows || LENGTH(CODES, 0) < LENGTH(TOKENS, 0) || depth < 0 || depth >= trie->n_levels
        || !are_nodes(trie, depth, ARRAY(int64_t, NODES), n_rows))
        return wrong_lengths("fill_bitmask", &arguments);
    for (int64_t code = 0; code < LENGTH(TOKENS, 0); code++)
        if (ARRAY(int64_t, TOKENS)[code] < 0 || ARRAY(int64_t, TOKENS)[code] >> 5 >= n_words)
            return wrong_lengths("fill_bitmask", &arguments);
    Py_BEGIN_ALLOW_THREADS
    FOR_CODE_SIZE(trie, fill_bits(trie, depth, ARRAY(int64_t, NODES), ARRAY(int64_t, TOKENS), ARRAY(uint32_t, BITMASK),
                                  n_rows, n_words, ARRAY(void, CODES), CODE_SIZE));
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    Py_RETURN_NONE;
}
