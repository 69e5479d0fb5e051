/* One step of a beam search over the trie: the best children of all beams of a request; semid/kernels/select.py.
 *
 * The same children win with the same float32 scores and the same ties as in Numba, by another way: beams are looked at
 * from the best one down, so that the k-th score so far soon stops almost every child of the others. Where a node has
 * most of the codes, its scores are not gathered: the row is compared with the threshold as it lies in memory, and the
 * few codes that reach it are looked up among the children.
 */
#include <stdlib.h>

#include "arguments.h"
#include "best.h"

typedef struct {
    Trie trie;
    int64_t depth, n_beams, size, k;
    const float *log_probs, *start; /* of one request */
    const int64_t *nodes;
    const int64_t *excluded, *candidates; /* sorted ranks of one request */
    int64_t n_excluded, n_candidates;
    int is_limited;
    /* Room for one request: its beams from the best down, where the children of each are, and scores of a block. */
    int64_t *order, *firsts, *lasts;
    float *values, *lanes;
    Best best;
    float *scores;
    int64_t *rows, *codes, *children; /* of one request, k each */
} Step;

enum { GROUP = 16 };

/* Tell whether any of a group of scores reaches the threshold; compilers make a few vector instructions of it. */
INLINED int
any_reaches(const float *values, float base, float threshold)
{
    int reaches = 0;
    for (int at = 0; at < GROUP; at++)
        reaches |= base + values[at] >= threshold;
    return reaches;
}

INLINED void
push(Step *step, int64_t beam, uint32_t code, float score)
{
    step->best.keys[step->best.n++] = key_of(score, (uint32_t)(beam * step->size + code));
}

/* The child of a beam that has this code, -1 if none has. Children with different codes and one item or edge each lie
 * no farther from their code than codes are missing. */
INLINED int64_t
find_child(const Step *step, const void *codes, int64_t beam, uint32_t code, int code_size)
{
    const int64_t first = step->firsts[beam], last = step->lasts[beam];
    int64_t low = first, high = last;
    if (step->depth < step->trie.n_explicit || step->depth == step->trie.n_levels - 1) {
        low = last - (step->size - (int64_t)code);
        high = first + (int64_t)code + 1;
        low = low < first ? first : low;
        high = high > last ? last : high;
    }
    const int64_t at = count_codes_below(codes, low, high, code, code_size);
    return at < last && code_at(codes, at, code_size) == code ? at : -1;
}

/* A score that k children reach, from a block of scores of different children: the k-th of the largest of each lane. */
static float
first_threshold(const float *values, int64_t n, int64_t k, float *lanes)
{
    const int64_t width = (2 * k + GROUP - 1) / GROUP * GROUP;
    if (n < 2 * width)
        return -INFINITY;
    memcpy(lanes, values, (size_t)width * sizeof *lanes);
    for (int64_t first = width; first + width <= n; first += width)
        for (int64_t at = 0; at < width; at++)
            lanes[at] = values[first + at] > lanes[at] ? values[first + at] : lanes[at];
    int64_t low = 0, high = width - 1;
    while (low < high) { /* quickselect; what is not a number has become -inf */
        const float pivot = lanes[(low + high) >> 1];
        int64_t i = low, j = high;
        while (i <= j) {
            while (lanes[i] > pivot)
                i++;
            while (pivot > lanes[j])
                j--;
            if (i <= j) {
                const float swapped = lanes[i];
                lanes[i++] = lanes[j];
                lanes[j--] = swapped;
            }
        }
        if (k - 1 <= j)
            high = j;
        else if (k - 1 >= i)
            low = i;
        else
            break;
    }
    return lanes[k - 1];
}

/* Push the children of a beam that reach the threshold, gathering the score of each. */
INLINED void
gather(Step *step, const void *codes, int64_t beam, int code_size)
{
    const float *log_probs = step->log_probs + beam * step->size, base = step->start[beam];
    const int64_t last = step->lasts[beam];
    const int repeats = step->depth >= step->trie.n_explicit && step->depth < step->trie.n_levels - 1;
    Best *best = &step->best;
    for (int64_t first = step->firsts[beam]; first < last; first += BLOCK) {
        const int64_t n = last - first < BLOCK ? last - first : BLOCK;
        make_room(best);
        float threshold = best->threshold;
        float *values = step->values;
        if (n < GROUP) {
            for (int64_t at = 0; at < n; at++) {
                const uint32_t code = code_at(codes, first + at, code_size);
                const float value = base + log_probs[code];
                if (value >= threshold && value > -INFINITY
                    && !(repeats && first + at > step->firsts[beam]
                         && code_at(codes, first + at - 1, code_size) == code))
                    push(step, beam, code, value);
            }
            continue;
        }
        for (int64_t at = 0; at < n; at++) {
            const float value = base + log_probs[code_at(codes, first + at, code_size)];
            values[at] = value > -INFINITY ? value : -INFINITY;
        }
        for (int64_t at = n; at < n + GROUP; at++)
            values[at] = -INFINITY;
        if (best->n == 0 && !repeats)
            threshold = best->threshold = first_threshold(values, n, best->k, step->lanes);
        for (int64_t group = 0; group < n; group += GROUP) {
            if (!any_reaches(values + group, 0.0f, threshold))
                continue;
            for (int64_t at = group; at < group + GROUP && at < n; at++) {
                if (!(values[at] >= threshold && values[at] > -INFINITY))
                    continue;
                const uint32_t code = code_at(codes, first + at, code_size);
                if (!(repeats && first + at > step->firsts[beam]
                      && code_at(codes, first + at - 1, code_size) == code))
                    push(step, beam, code, values[at]);
            }
        }
    }
}

/* Push the children of a beam that reach the threshold: compare all codes with it and look up those that do. */
INLINED void
scan(Step *step, const void *codes, int64_t beam, int code_size)
{
    const float *log_probs = step->log_probs + beam * step->size, base = step->start[beam];
    Best *best = &step->best;
    for (int64_t first = 0; first < step->size; first += GROUP) {
        const int is_whole = first + GROUP <= step->size;
        if (is_whole && !any_reaches(log_probs + first, base, best->threshold))
            continue;
        make_room(best);
        for (int64_t code = first; code < (is_whole ? first + GROUP : step->size); code++) {
            const float value = base + log_probs[code];
            if (value >= best->threshold && value > -INFINITY
                && find_child(step, codes, beam, (uint32_t)code, code_size) >= 0)
                push(step, beam, (uint32_t)code, value);
        }
    }
}

/* Tell whether each of the ranks low .. high - 1 is not alive or excluded. */
INLINED int
is_dead(const Step *step, int64_t low, int64_t high)
{
    int64_t left = alive_below(&step->trie, low, high);
    if (left == 0)
        return 1;
    if (left > step->n_excluded)
        return 0;
    for (int64_t at = count_ranks_below(step->excluded, 0, step->n_excluded, low);
         at < step->n_excluded && step->excluded[at] < high; at++)
        left -= alive_below(&step->trie, step->excluded[at], step->excluded[at] + 1);
    return left == 0;
}

/* Push the children of a beam that lead to a candidate. */
INLINED void
gather_candidates(Step *step, const void *codes, int64_t beam, int code_size)
{
    const Trie *trie = &step->trie;
    const float *log_probs = step->log_probs + beam * step->size, base = step->start[beam];
    int64_t low, high, last_child = -1;
    node_range(trie, step->depth, step->nodes[beam], &low, &high);
    for (int64_t at = count_ranks_below(step->candidates, 0, step->n_candidates, low); at < step->n_candidates; at++) {
        const int64_t rank = step->candidates[at];
        if (rank >= high)
            break;
        if (is_dead(step, rank, rank + 1))
            continue;
        int64_t child;
        if (step->depth < trie->n_explicit) { /* the last edge of the node that begins at the rank or before it */
            const int64_t below = trie->node_offsets[step->depth + 1];
            int64_t first = step->firsts[beam], last = step->lasts[beam];
            while (first < last) {
                const int64_t middle = (first + last) >> 1;
                if (first_of(trie, below + middle) <= rank)
                    first = middle + 1;
                else
                    last = middle;
            }
            child = first - 1;
        }
        else
            child = count_codes_below(codes, low, rank, code_at(codes, rank, code_size), code_size);
        if (child == last_child)
            continue;
        last_child = child;
        const uint32_t code = code_at(codes, child, code_size);
        const float value = base + log_probs[code];
        make_room(&step->best);
        if (value >= step->best.threshold && value > -INFINITY)
            push(step, beam, code, value);
    }
}

/* Find where each beam's children are, and the beams from the best down; returns how many are not dead. */
static int64_t
order_beams(Step *step)
{
    int64_t n = 0;
    for (int64_t beam = 0; beam < step->n_beams; beam++) {
        const int64_t node = step->nodes[beam];
        step->firsts[beam] = step->lasts[beam] = 0;
        if (node < 0)
            continue;
        child_range(&step->trie, step->depth, node, &step->firsts[beam], &step->lasts[beam]);
        PREFETCH((const char *)codes_of_level(&step->trie, step->depth, step->trie.code_size)
                 + step->firsts[beam] * step->trie.code_size);
        int64_t at = n++;
        for (; at > 0 && step->start[step->order[at - 1]] < step->start[beam]; at--)
            step->order[at] = step->order[at - 1];
        step->order[at] = beam;
    }
    return n;
}

/* Write the winners from the sorted keys on; returns how many slots were filled. */
INLINED int64_t
write_winners(Step *step, const void *codes, int filtered, int code_size)
{
    int64_t n = 0;
    for (int64_t at = 0; at < step->best.n && n < step->k; at++) {
        const uint32_t place = place_of(step->best.keys[at]), size = (uint32_t)step->size;
        const int64_t beam = place / size;
        const uint32_t code = place % size;
        const int64_t child = find_child(step, codes, beam, code, code_size);
        if (filtered) {
            int64_t low, high;
            node_range(&step->trie, step->depth + 1, child, &low, &high);
            if (is_dead(step, low, high))
                continue;
        }
        step->scores[n] = step->start[beam] + step->log_probs[beam * step->size + code];
        step->rows[n] = beam;
        step->codes[n] = code;
        step->children[n++] = child;
    }
    return n;
}

/* One request; `wanted` keys are kept, as many more than k as may be dead. Returns 0 when they were too few. */
INLINED int
select_of_request(Step *step, int64_t wanted, int filtered, int code_size)
{
    const void *codes = codes_of_level(&step->trie, step->depth, code_size);
    const int distinct = step->depth < step->trie.n_explicit || step->depth == step->trie.n_levels - 1;
    Best *best = &step->best;
    best->n = 0;
    best->k = wanted;
    best->most = 2 * wanted + GROUP;
    best->threshold = -INFINITY;
    const int64_t n_alive = order_beams(step);
    for (int64_t at = 0; at < n_alive; at++) {
        const int64_t beam = step->order[at], n_children = step->lasts[beam] - step->firsts[beam];
        if (step->is_limited)
            gather_candidates(step, codes, beam, code_size);
        else if (distinct && best->threshold > -INFINITY && 8 * n_children > 3 * step->size)
            scan(step, codes, beam, code_size);
        else
            gather(step, codes, beam, code_size);
        if (best->threshold == -INFINITY)
            cut(best);
    }
    const int all = best->threshold == -INFINITY && best->n <= wanted;
    cut(best);
    sort_keys(best);
    int64_t n = write_winners(step, codes, filtered, code_size);
    if (n < step->k && !all)
        return 0;
    for (; n < step->k; n++) {
        step->scores[n] = -INFINITY;
        step->rows[n] = step->codes[n] = step->children[n] = -1;
    }
    return 1;
}

/* How many keys to keep so that k of them are likely to be alive; the share of dead items is known. */
static int64_t
first_wanted(const Step *step)
{
    if (!step->trie.alive || step->depth < step->trie.n_explicit)
        return step->k + step->k / 4 + 1; /* few children of explicit levels die */
    const int64_t n_items = step->trie.n_items, n_alive = alive_before(&step->trie, n_items);
    const int64_t expected = n_alive * 8 > n_items ? step->k * n_items / n_alive : 8 * step->k;
    return expected + expected / 3 + 2;
}

static int
allocate(Step *step, int64_t wanted)
{
    const size_t n_keys = (size_t)(2 * wanted + GROUP + BLOCK + GROUP);
    free(step->best.keys);
    free(step->best.scratch);
    free(step->lanes);
    step->best.keys = malloc(n_keys * sizeof(uint64_t));
    step->best.scratch = malloc(n_keys * sizeof(uint64_t));
    step->lanes = malloc((size_t)(2 * wanted + GROUP) * sizeof(float));
    return step->best.keys && step->best.scratch && step->lanes ? 0 : -1;
}

INLINED int
select_request(Step *step, int64_t *room, int code_size)
{
    const int filtered = !step->is_limited && (step->trie.alive || step->n_excluded > 0);
    const int64_t most = step->n_beams * step->size + 1;
    int64_t wanted = filtered ? first_wanted(step) : step->k;
    for (;;) {
        wanted = wanted < most ? wanted : most;
        if (wanted > *room) {
            if (allocate(step, wanted) < 0)
                return -1;
            *room = wanted;
        }
        if (select_of_request(step, wanted, filtered, code_size))
            return 0;
        wanted *= 4;
    }
}

PyObject *
select_children(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t n)
{
    enum { DEPTH = N_TRIE, LOG_PROBS, START, NODES, EXCLUDED, EXCLUDE_STARTS, CANDIDATES, CANDIDATE_STARTS, LIMITED,
           OUT_SCORES, OUT_ROWS, OUT_CODES, OUT_NODES };
    Arguments arguments;
    if (take_arguments("select", TRIE_LAYOUT "n0r d3r d2r q2r q1r q1r q1r q1r b1r d2w q2w q2w q2w", objects, n,
                       &arguments)
        < 0)
        return NULL;
    const int64_t n_requests = LENGTH(LOG_PROBS, 0), k = LENGTH(OUT_SCORES, 1), *nodes = ARRAY(int64_t, NODES);
    Step step = {.trie = arguments.trie, .depth = arguments.numbers[DEPTH], .n_beams = LENGTH(LOG_PROBS, 1),
                 .size = LENGTH(LOG_PROBS, 2), .k = k};
    int fits = step.depth >= 0 && step.depth < step.trie.n_levels && LENGTH(LIMITED, 0) == n_requests
               && LENGTH(EXCLUDE_STARTS, 0) == n_requests + 1 && LENGTH(CANDIDATE_STARTS, 0) == n_requests + 1
               && LENGTH(START, 0) == n_requests && LENGTH(START, 1) == step.n_beams && LENGTH(NODES, 0) == n_requests
               && LENGTH(NODES, 1) == step.n_beams && step.n_beams * step.size < INT64_C(0xFFFFFFFF);
    for (int out = OUT_SCORES; out <= OUT_NODES; out++)
        fits = fits && LENGTH(out, 0) == n_requests && LENGTH(out, 1) == k;
    if (!fits)
        return wrong_lengths("select", &arguments);

    int failed = 0;
    int64_t room = 0;
    Py_BEGIN_ALLOW_THREADS
    step.order = malloc((size_t)(3 * step.n_beams + 1) * sizeof(int64_t));
    step.values = malloc((BLOCK + GROUP) * sizeof(float));
    failed = !step.order || !step.values;
    step.firsts = step.order + step.n_beams;
    step.lasts = step.firsts + step.n_beams;
    for (int64_t request = 0; request < n_requests && !failed; request++) {
        const int64_t *exclude_starts = ARRAY(int64_t, EXCLUDE_STARTS) + request;
        const int64_t *candidate_starts = ARRAY(int64_t, CANDIDATE_STARTS) + request;
        step.log_probs = ARRAY(float, LOG_PROBS) + request * step.n_beams * step.size;
        step.start = ARRAY(float, START) + request * step.n_beams;
        step.nodes = nodes + request * step.n_beams;
        step.excluded = ARRAY(int64_t, EXCLUDED) + exclude_starts[0];
        step.n_excluded = exclude_starts[1] - exclude_starts[0];
        step.candidates = ARRAY(int64_t, CANDIDATES) + candidate_starts[0];
        step.n_candidates = candidate_starts[1] - candidate_starts[0];
        step.is_limited = ARRAY(uint8_t, LIMITED)[request] != 0;
        step.scores = ARRAY(float, OUT_SCORES) + request * k;
        step.rows = ARRAY(int64_t, OUT_ROWS) + request * k;
        step.codes = ARRAY(int64_t, OUT_CODES) + request * k;
        step.children = ARRAY(int64_t, OUT_NODES) + request * k;
        FOR_CODE_SIZE(&step.trie, failed = select_request(&step, &room, CODE_SIZE) < 0);
    }
    free(step.order);
    free(step.values);
    free(step.lanes);
    free(step.best.keys);
    free(step.best.scratch);
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    if (failed)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}
