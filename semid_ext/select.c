/* One step of a beam search over the trie: the best children of all beams of a request; semid/kernels/select.py.
 *
 * The same children win with the same float32 scores and the same ties as in Numba, with less looking. The children of
 * a sparse node are scored one by one. Of a dense node, which has most of the codes, the scores of all codes are read
 * as they lie in memory, and only those that reach the threshold are looked up among the children.
 */
#include <math.h>
#include <stdlib.h>

#include "arguments.h"
#include "best.h"
#include "lanes.h"

/* Beams between the one that is scored and the one whose scores are fetched. */
enum { FETCHED = 4 };
/* A node of a flat level with so many items to a child is read by the bits that say where children begin. */
enum { CROWDNESS = 2 };
/* Words of bits that are taken at a time. */
enum { MOST_WORDS = 128 };
/* Excluded ranks of a request that are fetched ahead. */
enum { MOST_FETCHED = 2048 };

typedef struct {
    Trie trie;
    int64_t depth, n_beams, size, k;
    int are_distinct; /* the children of a node have different codes, one item or edge each */
    /* Of one request. */
    const float *log_probs, *start;
    const int64_t *nodes, *excluded, *candidates; /* sorted ranks */
    int64_t n_excluded, n_candidates;
    int is_limited, is_filtered;
    float *scores;
    int64_t *rows, *codes, *children; /* k each */
    /* Room for one request: where the children of each beam are and how many, the beams of dense nodes, which
     * excluded ranks are below each beam's node (-1 while nobody asked), the scores of all other children with their
     * places, lanes. */
    int64_t *firsts, *lasts, *counts, *dense, *first_excluded, *last_excluded;
    float *values, *lanes;
    uint32_t *places;
    int64_t n_dense, n_values, n_children, values_room, lanes_room, most_wanted;
    Best best;
} Step;

/* The child of a beam that has this code, -1 if none has. Where codes are distinct, a child lies no farther from its
 * code than codes are missing. */
INLINED int64_t
find_child(const Step *step, const void *codes, int64_t beam, uint32_t code, int code_size)
{
    const int64_t first = step->firsts[beam], last = step->lasts[beam];
    int64_t low = first, high = last;
    if (step->are_distinct) {
        low = last - (step->size - (int64_t)code);
        high = first + (int64_t)code + 1;
        low = low < first ? first : low;
        high = high > last ? last : high;
    }
    const int64_t at = count_codes_below(codes, low, high, code, code_size);
    return at < last && code_at(codes, at, code_size) == code ? at : -1;
}

/* Tell whether each of the ranks low .. high - 1 is not alive or among some of the excluded. */
INLINED int
is_dead(const Step *step, int64_t low, int64_t high, const int64_t *excluded, int64_t n_excluded)
{
    int64_t left = alive_below(&step->trie, low, high);
    if (left == 0)
        return 1;
    if (left > n_excluded)
        return 0;
    for (int64_t at = count_ranks_below(excluded, n_excluded, low); at < n_excluded && excluded[at] < high; at++)
        left -= alive_below(&step->trie, excluded[at], excluded[at] + 1);
    return left == 0;
}

/* Score the children of a beam; those of flat levels where they have an item alive, which a bit beside it says. */
INLINED void
score_children(Step *step, const void *codes, int64_t beam, int some_are_dead, int code_size)
{
    const float *log_probs = step->log_probs + beam * step->size, base = step->start[beam];
    const int64_t last = step->lasts[beam];
    const uint32_t place = (uint32_t)(beam * step->size);
    float *values = step->values + step->n_values;
    uint32_t *places = step->places + step->n_values;
    int64_t n = 0;
    int is_reached = 0;
    for (int64_t child = step->firsts[beam]; child < last; child++) {
        const uint32_t code = code_at(codes, child, code_size);
        values[n] = base + log_probs[code];
        places[n] = place + code;
        if (step->are_distinct)
            n += some_are_dead ? is_alive(&step->trie, child) : 1;
        else { /* items that share a child are neighbours: the next one overwrites it */
            const int is_end = child + 1 == last || code_at(codes, child + 1, code_size) != code;
            is_reached |= some_are_dead ? is_alive(&step->trie, child) : 1;
            n += is_end & is_reached;
            is_reached &= !is_end;
        }
    }
    step->n_values += n;
}

/* The same in a crowded node of a flat level before the last, by the bits that say where its children begin. */
INLINED void
score_crowd(Step *step, const void *codes, int64_t beam, int some_are_dead, int code_size)
{
    const float *log_probs = step->log_probs + beam * step->size, base = step->start[beam];
    const uint32_t place = (uint32_t)(beam * step->size);
    float *values = step->values + step->n_values;
    uint32_t *places = step->places + step->n_values;
    int64_t n = 0, child_before = -1;
    Children children;
    begin_children(&children, &step->trie, step->depth, step->firsts[beam], step->lasts[beam]);
    do
        for (uint64_t bits = children.bits; bits; bits &= bits - 1) {
            const int64_t child = (children.word << 6) + lowest_bit(bits);
            const uint32_t code = code_at(codes, child, code_size);
            if (some_are_dead) { /* where this child begins, the items of the one before end */
                if (child_before >= 0)
                    n += alive_below(&step->trie, child_before, child) > 0;
                child_before = child;
            }
            values[n] = base + log_probs[code];
            places[n] = place + code;
            n += !some_are_dead;
        }
    while (next_word(&children));
    if (some_are_dead)
        n += alive_below(&step->trie, child_before, step->lasts[beam]) > 0;
    step->n_values += n;
}

/* Score the children of a beam that lead to a candidate. */
INLINED void
score_candidates(Step *step, const void *codes, int64_t beam, int code_size)
{
    const Trie *trie = &step->trie;
    const float *log_probs = step->log_probs + beam * step->size, base = step->start[beam];
    int64_t low, high, last_child = -1;
    node_range(trie, step->depth, step->nodes[beam], &low, &high);
    for (int64_t at = count_ranks_below(step->candidates, step->n_candidates, low); at < step->n_candidates; at++) {
        const int64_t rank = step->candidates[at];
        if (rank >= high)
            break;
        if (is_dead(step, rank, rank + 1, step->excluded, step->n_excluded))
            continue;
        int64_t child;
        if (step->depth < trie->n_explicit) { /* the last edge that begins at the rank or before it */
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
        step->values[step->n_values] = base + log_probs[code];
        step->places[step->n_values++] = (uint32_t)(beam * step->size) + code;
    }
}

/* Find where each beam's children are, and fetch them: the next pass need not wait for one after the other then. */
INLINED void
find_children(Step *step, const void *codes, int code_size)
{
    const int some_are_dead = step->trie.alive && step->depth >= step->trie.n_explicit;
    for (int64_t at = 0; at < step->n_excluded && at < MOST_FETCHED; at += 8) /* a line's; winners will ask */
        PREFETCH(step->excluded + at);
    for (int64_t beam = 0; beam < step->n_beams; beam++) {
        int64_t first = 0, last = 0;
        if (step->nodes[beam] >= 0)
            child_range(&step->trie, step->depth, step->nodes[beam], &first, &last);
        for (int line = 0; line < 3; line++)
            PREFETCH((const char *)codes + first * code_size + 64 * line);
        if (!step->are_distinct)
            PREFETCH(forks_of_depth(&step->trie, step->depth + 1) + (first >> 6));
        if (some_are_dead)
            PREFETCH(step->trie.alive + (first >> 6));
        step->firsts[beam] = first;
        step->lasts[beam] = last;
        step->first_excluded[beam] = -1;
    }
}

/* Fetch the scores that a beam's children will need: they come from a model, and are often in no cache near. */
INLINED void
fetch_scores(const Step *step, const void *codes, int64_t beam, int code_size)
{
    const float *log_probs = step->log_probs + beam * step->size;
    const int64_t last = step->lasts[beam];
    for (int64_t child = step->firsts[beam]; child < last; child++)
        PREFETCH(log_probs + code_at(codes, child, code_size));
}

/* Score the children that are not of dense nodes; -1 where memory is out. */
INLINED int
score_request(Step *step, const void *codes, int code_size)
{
    int64_t room = GROUP;
    const int some_are_dead = step->trie.alive && step->depth >= step->trie.n_explicit;
    step->n_dense = step->n_values = step->n_children = 0;
    find_children(step, codes, code_size);
    for (int64_t beam = 0; beam < step->n_beams; beam++) {
        int64_t n = step->lasts[beam] - step->firsts[beam];
        step->counts[beam] = step->are_distinct ? n : -1;
        if (n >= CROWDED && !step->are_distinct && !step->is_limited)
            n = step->counts[beam] = count_flat_children(&step->trie, step->depth, step->firsts[beam],
                                                         step->lasts[beam]);
        if (step->counts[beam] >= GROUP && 2 * n > step->size && !step->is_limited && !some_are_dead) {
            step->dense[step->n_dense++] = beam;
            step->n_children += n;
        }
        else
            room += n < step->size ? n : step->size;
    }
    if (room > step->values_room) {
        free(step->values);
        free(step->places);
        step->values = malloc((size_t)room * sizeof(float));
        step->places = malloc((size_t)room * sizeof(uint32_t));
        step->values_room = room;
        if (!step->values || !step->places)
            return -1;
    }
    for (int64_t beam = 0, dense = 0; beam < step->n_beams; beam++) {
        if (beam + FETCHED < step->n_beams && step->lasts[beam + FETCHED] - step->firsts[beam + FETCHED] < CROWDED)
            fetch_scores(step, codes, beam + FETCHED, code_size);
        if (step->nodes[beam] < 0)
            continue;
        if (dense < step->n_dense && step->dense[dense] == beam) {
            dense++;
            continue;
        }
        if (step->is_limited)
            score_candidates(step, codes, beam, code_size);
        else if (!step->are_distinct && step->lasts[beam] - step->firsts[beam] >= CROWDED
                 && step->lasts[beam] - step->firsts[beam] >= CROWDNESS * step->counts[beam])
            score_crowd(step, codes, beam, some_are_dead, code_size);
        else if (some_are_dead)
            score_children(step, codes, beam, 1, code_size);
        else
            score_children(step, codes, beam, 0, code_size);
    }
    step->n_children += step->n_values;
    return 0;
}

/* The scores of all codes of dense nodes. */
INLINED Rows
dense_rows(const Step *step)
{
    return (Rows){step->log_probs, step->start, step->dense, step->n_dense, step->size};
}

/* The scores of the children of all other nodes, which one row holds. */
INLINED Rows
value_rows(const Step *step)
{
    static const float base = 0.0f;
    static const int64_t beam = 0;
    return (Rows){step->values, &base, &beam, 1, step->n_values};
}

/* A score that `wanted` children reach, or almost as many: every score falls into one of a few lanes, and a lane's
 * largest is one child, or in a dense node now and then a code without one. */
static float
likely_threshold(Step *step, int64_t wanted)
{
    const int64_t n_codes = step->n_dense * step->size + step->n_values;
    if (step->n_children <= 2 * wanted)
        return -INFINITY;
    if (n_codes > step->n_children)
        wanted = wanted * n_codes / step->n_children + wanted / 4 + 1;
    Lanes lanes = {step->lanes, (3 * wanted + GROUP - 1) / GROUP * GROUP, 0};
    if (lanes.n > step->lanes_room)
        return -INFINITY;
    for (int64_t lane = 0; lane < lanes.n; lane++)
        lanes.lanes[lane] = -INFINITY;
    if (step->n_dense) {
        /* Rows that are fewer than the groups of lanes are taken in pieces, so that each lane has some scores. */
        const Rows rows = dense_rows(step);
        const int64_t n_pieces = (lanes.n / GROUP + rows.n - 1) / rows.n;
        raise_lanes(&rows, ((rows.size + n_pieces - 1) / n_pieces + GROUP - 1) / GROUP * GROUP, &lanes);
    }
    const Rows values = value_rows(step);
    raise_lanes(&values, GROUP, &lanes);
    return reached_by(lanes.lanes, lanes.n, wanted);
}

/* Push the keys of the children that reach the threshold, of dense nodes or of all others. */
INLINED void
push_rows(Step *step, const Rows *rows, int are_dense, const void *codes, int code_size)
{
    uint64_t words[MOST_WORDS];
    uint32_t firsts[MOST_WORDS];
    int64_t hits[MOST_WORDS], row = 0, at = 0;
    Best *best = &step->best;
    while (row < rows->n) {
        const int64_t n = mark_reaching(rows, best->threshold, &row, &at, MOST_WORDS, words, firsts);
        int64_t n_hits = 0;
        for (int64_t word = 0; word < n; word++) { /* most words are empty: no branch has to be guessed for them */
            hits[n_hits] = word;
            n_hits += words[word] != 0;
        }
        for (int64_t hit = 0; hit < n_hits; hit++) {
            uint64_t bits = words[hits[hit]];
            const uint32_t first = firsts[hits[hit]], beam = are_dense ? first / (uint32_t)step->size : 0;
            const int is_full = are_dense && step->counts[beam] == step->size;
            make_room(best);
            for (; bits; bits &= bits - 1) {
                const uint32_t place = first + (uint32_t)lowest_bit(bits);
                if (!are_dense) {
                    best->keys[best->n++] = key_of(step->values[place], step->places[place]);
                    continue;
                }
                const uint32_t code = place - beam * (uint32_t)step->size;
                const int64_t child
                    = is_full ? step->firsts[beam] + code : find_child(step, codes, beam, code, code_size);
                if (child < 0)
                    continue;
                if (step->is_filtered) /* whether it is dead will be asked when it has won */
                    fetch_pointers(&step->trie, step->depth + 1, child);
                best->keys[best->n++] = key_of(step->start[beam] + step->log_probs[place], place);
            }
        }
    }
}

/* Keep the keys of the children that reach the threshold. */
INLINED void
push_reaching(Step *step, const void *codes, int code_size)
{
    const Rows dense = dense_rows(step), values = value_rows(step);
    push_rows(step, &dense, 1, codes, code_size);
    push_rows(step, &values, 0, codes, code_size);
}

/* Find which of the excluded ranks are below a beam's node. */
INLINED void
find_excluded(const Step *step, int64_t beam)
{
    int64_t low = step->firsts[beam], high = step->lasts[beam];
    if (step->depth < step->trie.n_explicit)
        node_range(&step->trie, step->depth, step->nodes[beam], &low, &high);
    const int64_t first = count_ranks_below(step->excluded, step->n_excluded, low);
    int64_t last = first;
    while (last < step->n_excluded && last < first + FEW && step->excluded[last] < high)
        last++;
    if (last == first + FEW)
        last += count_ranks_below(step->excluded + last, step->n_excluded - last, high);
    step->first_excluded[beam] = first;
    step->last_excluded[beam] = last;
}

/* Tell whether a request may reach no item below a child of a beam. */
INLINED int
is_child_dead(const Step *step, int64_t beam, int64_t child)
{
    if (step->first_excluded[beam] < 0) /* winners often are siblings */
        find_excluded(step, beam);
    const int64_t first = step->first_excluded[beam], n_excluded = step->last_excluded[beam] - first;
    if (!n_excluded && (!step->trie.alive || step->depth >= step->trie.n_explicit))
        return 0; /* nothing below its parent is excluded, and those that are not alive were not scored */
    int64_t low, high;
    node_range(&step->trie, step->depth + 1, child, &low, &high);
    return is_dead(step, low, high, step->excluded + first, n_excluded);
}

/* Write the winners from the sorted keys on; returns how many slots were filled. */
INLINED int64_t
write_winners(Step *step, const void *codes, int code_size)
{
    const uint32_t size = (uint32_t)step->size;
    int64_t n = 0;
    for (int64_t at = 0; at < step->best.n && n < step->k; at++) {
        const uint32_t place = place_of(step->best.keys[at]), beam = place / size, code = place % size;
        const int64_t child = find_child(step, codes, beam, code, code_size);
        if (step->is_filtered && is_child_dead(step, beam, child))
            continue;
        step->scores[n] = step->start[beam] + step->log_probs[place];
        step->rows[n] = beam;
        step->codes[n] = code;
        step->children[n++] = child;
    }
    return n;
}

static int
make_room_for_keys(Step *step, int64_t wanted)
{
    if (wanted <= step->most_wanted)
        return 0;
    const size_t n_keys = (size_t)(2 * wanted + BLOCK + FEW);
    step->most_wanted = wanted;
    step->lanes_room = 4 * (wanted + GROUP);
    free(step->best.keys);
    free(step->best.scratch);
    free(step->lanes);
    step->best.keys = malloc(n_keys * sizeof(uint64_t));
    step->best.scratch = malloc(n_keys * sizeof(uint64_t));
    step->lanes = malloc((size_t)step->lanes_room * sizeof(float));
    return step->best.keys && step->best.scratch && step->lanes ? 0 : -1;
}

/* One request; -1 where memory is out. */
INLINED int
select_of_request(Step *step, int code_size)
{
    const void *codes = codes_of_level(&step->trie, step->depth, code_size);
    if (score_request(step, codes, code_size) < 0)
        return -1;
    int64_t wanted = step->is_filtered ? step->k + step->k / 8 + 1 : step->k, n = 0; /* few winners are dead */
    for (;; wanted *= 4) { /* again with more where too many were dead, or codes without a child */
        wanted = wanted < step->n_children ? wanted : step->n_children + 1;
        if (make_room_for_keys(step, wanted) < 0)
            return -1;
        begin(&step->best, wanted, likely_threshold(step, wanted));
        push_reaching(step, codes, code_size);
        sort_best(&step->best);
        n = write_winners(step, codes, code_size);
        if (n == step->k || step->best.is_all)
            break;
    }
    for (; n < step->k; n++) {
        step->scores[n] = -INFINITY;
        step->rows[n] = step->codes[n] = step->children[n] = -1;
    }
    return 0;
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
    const int64_t n_requests = LENGTH(LOG_PROBS, 0), k = LENGTH(OUT_SCORES, 1);
    Step step = {.trie = arguments.trie, .depth = arguments.numbers[DEPTH], .n_beams = LENGTH(LOG_PROBS, 1),
                 .size = LENGTH(LOG_PROBS, 2), .k = k};
    int fits = step.depth >= 0 && step.depth < step.trie.n_levels && LENGTH(LIMITED, 0) == n_requests
               && LENGTH(EXCLUDE_STARTS, 0) == n_requests + 1 && LENGTH(CANDIDATE_STARTS, 0) == n_requests + 1
               && LENGTH(START, 0) == n_requests && LENGTH(START, 1) == step.n_beams && LENGTH(NODES, 0) == n_requests
               && LENGTH(NODES, 1) == step.n_beams && step.n_beams * step.size < INT64_C(0xFFFFFFFF);
    fits = fits && are_starts(ARRAY(int64_t, EXCLUDE_STARTS), n_requests + 1, LENGTH(EXCLUDED, 0))
           && are_starts(ARRAY(int64_t, CANDIDATE_STARTS), n_requests + 1, LENGTH(CANDIDATES, 0));
    for (int out = OUT_SCORES; out <= OUT_NODES; out++)
        fits = fits && LENGTH(out, 0) == n_requests && LENGTH(out, 1) == k;
    if (!fits)
        return wrong_lengths("select", &arguments);
    step.are_distinct = step.depth < step.trie.n_explicit || step.depth == step.trie.n_levels - 1;

    if (!are_nodes(&step.trie, step.depth, ARRAY(int64_t, NODES), n_requests * step.n_beams)) {
        release_arguments(&arguments);
        Py_RETURN_FALSE;
    }

    int failed = 0;
    Py_BEGIN_ALLOW_THREADS
    step.firsts = malloc((size_t)(6 * step.n_beams + 1) * sizeof(int64_t));
    failed = !step.firsts;
    step.lasts = step.firsts + step.n_beams;
    step.counts = step.lasts + step.n_beams;
    step.dense = step.counts + step.n_beams;
    step.first_excluded = step.dense + step.n_beams;
    step.last_excluded = step.first_excluded + step.n_beams;
    for (int64_t request = 0; request < n_requests && !failed; request++) {
        const int64_t *exclude_starts = ARRAY(int64_t, EXCLUDE_STARTS) + request;
        const int64_t *candidate_starts = ARRAY(int64_t, CANDIDATE_STARTS) + request;
        step.log_probs = ARRAY(float, LOG_PROBS) + request * step.n_beams * step.size;
        step.start = ARRAY(float, START) + request * step.n_beams;
        step.nodes = ARRAY(int64_t, NODES) + request * step.n_beams;
        step.excluded = ARRAY(int64_t, EXCLUDED) + exclude_starts[0];
        step.n_excluded = exclude_starts[1] - exclude_starts[0];
        step.candidates = ARRAY(int64_t, CANDIDATES) + candidate_starts[0];
        step.n_candidates = candidate_starts[1] - candidate_starts[0];
        step.is_limited = ARRAY(uint8_t, LIMITED)[request] != 0;
        step.is_filtered = !step.is_limited && (step.trie.alive || step.n_excluded > 0);
        step.scores = ARRAY(float, OUT_SCORES) + request * k;
        step.rows = ARRAY(int64_t, OUT_ROWS) + request * k;
        step.codes = ARRAY(int64_t, OUT_CODES) + request * k;
        step.children = ARRAY(int64_t, OUT_NODES) + request * k;
        FOR_CODE_SIZE(&step.trie, failed = select_of_request(&step, CODE_SIZE) < 0);
    }
    free(step.firsts);
    free(step.values);
    free(step.places);
    free(step.lanes);
    free(step.best.keys);
    free(step.best.scratch);
    Py_END_ALLOW_THREADS
    release_arguments(&arguments);
    if (failed)
        return PyErr_NoMemory();
    Py_RETURN_TRUE;
}
