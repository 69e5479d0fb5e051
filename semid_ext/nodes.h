/* What a trie's arrays mean: semid/kernels/nodes.py says it; here are the same helpers in C. */
#ifndef SEMID_NODES_H
#define SEMID_NODES_H

#include <stdint.h>

/* A helper that takes the size of a code is inlined where that is a constant, and so there is one loop per type. */
#if defined(__GNUC__)
#define INLINED static inline __attribute__((always_inline))
#define PREFETCH(address) __builtin_prefetch(address)
#elif defined(_MSC_VER)
#define INLINED static __forceinline
#define PREFETCH(address) ((void)(address))
#else
#define INLINED static inline
#define PREFETCH(address) ((void)(address))
#endif

/* The children of a node of so many items are found by the bits that say where they begin, not by looking at each item:
 * the cost does not grow with the number of items then. */
enum { CROWDED = 64 };

typedef struct {
    const void *starts, *firsts; /* int64_t where is_wide, else int32_t */
    const void *child_codes;     /* unsigned, code_size bytes each */
    const uint64_t *forks;
    const int64_t *node_offsets, *code_offsets;
    const uint64_t *alive; /* NULL when all are alive */
    const int64_t *alive_counts;
    int64_t n_explicit, n_levels, n_items;
    int is_wide, code_size;
} Trie;

INLINED int64_t
pointer_at(const Trie *trie, const void *pointers, int64_t at)
{
    return trie->is_wide ? ((const int64_t *)pointers)[at] : ((const int32_t *)pointers)[at];
}

INLINED int64_t
start_of(const Trie *trie, int64_t at)
{
    return pointer_at(trie, trie->starts, at);
}

INLINED int64_t
first_of(const Trie *trie, int64_t at)
{
    return pointer_at(trie, trie->firsts, at);
}

INLINED uint32_t
code_at(const void *codes, int64_t at, int code_size)
{
    if (code_size == 1)
        return ((const uint8_t *)codes)[at];
    if (code_size == 2)
        return ((const uint16_t *)codes)[at];
    return ((const uint32_t *)codes)[at];
}

INLINED void
put_code(void *codes, int64_t at, uint32_t code, int code_size)
{
    if (code_size == 1)
        ((uint8_t *)codes)[at] = (uint8_t)code;
    else if (code_size == 2)
        ((uint16_t *)codes)[at] = (uint16_t)code;
    else
        ((uint32_t *)codes)[at] = code;
}

/* The codes of a level. */
INLINED const void *
codes_of_level(const Trie *trie, int64_t level, int code_size)
{
    return (const char *)trie->child_codes + trie->code_offsets[level] * code_size;
}

INLINED int64_t
popcount(uint64_t bits)
{
    bits -= (bits >> 1) & UINT64_C(0x5555555555555555);
    bits = (bits & UINT64_C(0x3333333333333333)) + ((bits >> 2) & UINT64_C(0x3333333333333333));
    return (int64_t)((((bits + (bits >> 4)) & UINT64_C(0x0F0F0F0F0F0F0F0F)) * UINT64_C(0x0101010101010101)) >> 56);
}

/* The position of the lowest bit set; there is one. */
INLINED int
lowest_bit(uint64_t bits)
{
#if defined(__GNUC__)
    return __builtin_ctzll(bits);
#else
    return (int)popcount((bits & (~bits + 1)) - 1);
#endif
}

/* First position in the sorted codes[low .. high - 1] that is not below `wanted`, without a branch to guess wrong. */
INLINED int64_t
count_codes_below(const void *codes, int64_t low, int64_t high, int64_t wanted, int code_size)
{
    for (int64_t n = high - low, half; n > 0; n -= half) {
        half = (n + 1) >> 1;
        low += (int64_t)code_at(codes, low + half - 1, code_size) < wanted ? half : 0;
    }
    return low;
}

/* The same among few: guessing lets the processor go on to what follows, which is in no cache yet. */
INLINED int64_t
count_few_codes_below(const void *codes, int64_t low, int64_t high, int64_t wanted, int code_size)
{
    while (low < high) {
        const int64_t middle = (low + high) >> 1;
        if ((int64_t)code_at(codes, middle, code_size) < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The same for ranks. */
INLINED int64_t
count_ranks_below(const int64_t *ranks, int64_t n, int64_t wanted)
{
    int64_t first = 0;
    for (int64_t half; n > 0; n -= half) {
        half = (n + 1) >> 1;
        first += ranks[first + half - 1] < wanted ? half : 0;
    }
    return first;
}

/* The first rank behind `rank` where a node begins; n_items if none does. */
INLINED int64_t
next_fork(const Trie *trie, const uint64_t *forks, int64_t rank)
{
    rank++;
    if (rank >= trie->n_items)
        return trie->n_items;
    int64_t word = rank >> 6;
    const int64_t n_words = (trie->n_items + 63) >> 6;
    uint64_t bits = forks[word] & (~UINT64_C(0) << (rank & 63));
    while (bits == 0) {
        if (++word == n_words)
            return trie->n_items;
        bits = forks[word];
    }
    return (word << 6) + lowest_bit(bits);
}

/* The bits that say where the nodes of a flat depth begin. */
INLINED const uint64_t *
forks_of_depth(const Trie *trie, int64_t depth)
{
    return trie->forks + (depth - 1 - trie->n_explicit) * ((trie->n_items + 63) >> 6);
}

/* The first rank below a node, and the one behind the last. */
INLINED void
node_range(const Trie *trie, int64_t depth, int64_t node, int64_t *low, int64_t *high)
{
    if (depth <= trie->n_explicit) {
        const int64_t at = trie->node_offsets[depth] + node;
        *low = first_of(trie, at);
        *high = first_of(trie, at + 1);
    }
    else {
        *low = node;
        *high = depth == trie->n_levels ? node + 1 : next_fork(trie, forks_of_depth(trie, depth), node);
    }
}

/* The children of a node of a flat level before the last: a bit says where each begins. */
typedef struct {
    const uint64_t *forks;
    int64_t word, last_word;
    uint64_t bits, last_mask;
} Children;

/* The bits of a word of the ranks first .. last - 1, of which there is at least one. */
INLINED void
begin_children(Children *children, const Trie *trie, int64_t depth, int64_t first, int64_t last)
{
    children->forks = forks_of_depth(trie, depth + 1);
    children->word = first >> 6;
    children->last_word = (last - 1) >> 6;
    children->last_mask = ~UINT64_C(0) >> (63 - ((last - 1) & 63));
    children->bits = children->forks[first >> 6] & (~UINT64_C(0) << (first & 63));
    if (children->word == children->last_word)
        children->bits &= children->last_mask;
}

INLINED int
next_word(Children *children)
{
    if (children->word == children->last_word)
        return 0;
    children->bits = children->forks[++children->word];
    if (children->word == children->last_word)
        children->bits &= children->last_mask;
    return 1;
}

/* The next child, -1 behind the last. */
INLINED int64_t
next_child(Children *children)
{
    while (!children->bits)
        if (!next_word(children))
            return -1;
    const int64_t child = (children->word << 6) + lowest_bit(children->bits);
    children->bits &= children->bits - 1;
    return child;
}

/* How many children there are. */
INLINED int64_t
count_flat_children(const Trie *trie, int64_t depth, int64_t first, int64_t last)
{
    Children children;
    begin_children(&children, trie, depth, first, last);
    int64_t n = popcount(children.bits);
    while (next_word(&children))
        n += popcount(children.bits);
    return n;
}

/* Tell whether all nodes are nodes of their depth, or -1. */
INLINED int
are_nodes(const Trie *trie, int64_t depth, const int64_t *nodes, int64_t n)
{
    const uint64_t n_nodes
        = (uint64_t)(depth <= trie->n_explicit ? trie->node_offsets[depth + 1] - trie->node_offsets[depth] - 1
                                               : trie->n_items);
    uint64_t n_others = 0;
    for (int64_t at = 0; at < n; at++)
        n_others += (uint64_t)nodes[at] + 1 > n_nodes;
    return n_others == 0;
}

/* How many ranks below `rank` are alive; `alive` has a word for it. */
INLINED int64_t
alive_before(const Trie *trie, int64_t rank)
{
    return trie->alive_counts[rank >> 6] + popcount(trie->alive[rank >> 6] & ~(~UINT64_C(0) << (rank & 63)));
}

/* 1 where a rank is alive. */
INLINED int
is_alive(const Trie *trie, int64_t rank)
{
    return (int)(trie->alive[rank >> 6] >> (rank & 63) & 1);
}

/* How many of the ranks low .. high - 1 are alive. */
INLINED int64_t
alive_below(const Trie *trie, int64_t low, int64_t high)
{
    if (!trie->alive)
        return high - low;
    if (low >> 6 == high >> 6) /* one word says it, without the counts */
        return popcount(trie->alive[low >> 6] & (~UINT64_C(0) << (low & 63)) & ~(~UINT64_C(0) << (high & 63)));
    return alive_before(trie, high) - alive_before(trie, low);
}

/* Where a node's children are: the edges first .. last - 1 of an explicit level, else its items. */
INLINED void
child_range(const Trie *trie, int64_t depth, int64_t node, int64_t *first, int64_t *last)
{
    if (depth < trie->n_explicit) {
        const int64_t at = trie->node_offsets[depth] + node;
        *first = start_of(trie, at);
        *last = start_of(trie, at + 1);
    }
    else
        node_range(trie, depth, node, first, last);
}

/* Fetch what child_range will read of a node. */
INLINED void
fetch_pointers(const Trie *trie, int64_t depth, int64_t node)
{
    if (depth <= trie->n_explicit) {
        const int64_t at = trie->node_offsets[depth] + node;
        const void *pointers = depth < trie->n_explicit ? trie->starts : trie->firsts;
        PREFETCH((const char *)pointers + at * (trie->is_wide ? 8 : 4));
    }
    else if (depth < trie->n_levels)
        PREFETCH(forks_of_depth(trie, depth) + (node >> 6));
}

/* Fetch the first codes of a node's children. */
INLINED void
fetch_codes(const Trie *trie, int64_t depth, int64_t node, int code_size)
{
    int64_t first, last;
    child_range(trie, depth, node, &first, &last);
    const char *codes = (const char *)codes_of_level(trie, depth, code_size) + first * code_size;
    for (int64_t byte = 0; byte < (last - first) * code_size && byte < 256; byte += 64)
        PREFETCH(codes + byte);
    if (trie->alive && depth >= trie->n_explicit)
        PREFETCH(trie->alive + (first >> 6));
}

/* Write the codes of a node's children with alive items to `out`, in order, and return how many there are. */
INLINED int64_t
list_children(const Trie *trie, int64_t depth, int64_t node, void *out, int code_size)
{
    const void *codes = codes_of_level(trie, depth, code_size);
    int64_t first, last, n = 0;
    child_range(trie, depth, node, &first, &last);
    if (depth < trie->n_explicit) {
        const int64_t below = trie->node_offsets[depth + 1];
        for (int64_t child = first; child < last; child++)
            if (!trie->alive
                || alive_below(trie, first_of(trie, below + child), first_of(trie, below + child + 1)) > 0)
                put_code(out, n++, code_at(codes, child, code_size), code_size);
        return n;
    }
    if (last - first >= CROWDED && depth < trie->n_levels - 1) {
        Children children;
        begin_children(&children, trie, depth, first, last);
        for (int64_t child = next_child(&children), next; child >= 0; child = next) {
            next = next_child(&children);
            if (!trie->alive || alive_below(trie, child, next < 0 ? last : next) > 0)
                put_code(out, n++, code_at(codes, child, code_size), code_size);
        }
        return n;
    }
    if (!trie->alive) { /* items that share a child are neighbours: the next one overwrites it */
        for (int64_t child = first; child < last; child++) {
            const uint32_t code = code_at(codes, child, code_size);
            put_code(out, n, code, code_size);
            n += child + 1 == last || code_at(codes, child + 1, code_size) != code;
        }
        return n;
    }
    while (first < last) {
        const uint32_t code = code_at(codes, first, code_size);
        int64_t behind = first + 1;
        while (behind < last && code_at(codes, behind, code_size) == code)
            behind++;
        if (alive_below(trie, first, behind) > 0)
            put_code(out, n++, code, code_size);
        first = behind;
    }
    return n;
}

/* Return the same codes and their number: where they lie in the trie when they follow each other there, else listed in
 * `room`. */
INLINED const void *
find_codes(const Trie *trie, int64_t depth, int64_t node, void *room, int64_t *n, int code_size)
{
    if (trie->alive || (depth >= trie->n_explicit && depth < trie->n_levels - 1)) {
        *n = list_children(trie, depth, node, room, code_size);
        return room;
    }
    int64_t first, last;
    child_range(trie, depth, node, &first, &last);
    *n = last - first;
    return (const char *)codes_of_level(trie, depth, code_size) + first * code_size;
}

/* Run a statement with CODE_SIZE as a constant. */
#define FOR_CODE_SIZE(trie, statement)                                                                              \
    do {                                                                                                            \
        if ((trie)->code_size == 1) {                                                                               \
            enum { CODE_SIZE = 1 };                                                                                 \
            statement;                                                                                              \
        }                                                                                                           \
        else if ((trie)->code_size == 2) {                                                                          \
            enum { CODE_SIZE = 2 };                                                                                 \
            statement;                                                                                              \
        }                                                                                                           \
        else {                                                                                                      \
            enum { CODE_SIZE = 4 };                                                                                 \
            statement;                                                                                              \
        }                                                                                                           \
    } while (0)

#endif
