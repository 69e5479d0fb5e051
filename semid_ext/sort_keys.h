/* Unsigned keys in place, in ascending order: by the highest digits in which they differ, then each digit's few by
 * counting who is smaller. Included once for each type: KEY is the type, SORT_FEW and SORT_KEYS name the functions, and
 * TARGET is what the compiler may assume of the processor. */

/* No more than FEW keys, with vector instructions and without a branch to guess wrong. */
TARGET static void
SORT_FEW(KEY *keys, int64_t n)
{
    KEY padded[FEW], sorted[FEW];
    const int64_t width = (n + 7) / 8 * 8;
    uint64_t total = 0;
    for (int64_t at = 0; at < n; at++)
        padded[at] = keys[at];
    for (int64_t at = n; at < width; at++)
        padded[at] = (KEY)-1;
    for (int64_t one = 0; one < n; one++) {
        const KEY key = padded[one];
        KEY slot = 0;
        for (int64_t other = 0; other < width; other++)
            slot = (KEY)(slot + (padded[other] < key));
        sorted[slot] = key;
        total += slot;
    }
    if (total == (uint64_t)(n * (n - 1) / 2)) { /* so they all differ, and each slot has its key */
        memcpy(keys, sorted, (size_t)n * sizeof *keys);
        return;
    }
    for (int64_t at = 1; at < n; at++) {
        const KEY key = keys[at];
        int64_t slot = at;
        for (; slot > 0 && keys[slot - 1] > key; slot--)
            keys[slot] = keys[slot - 1];
        keys[slot] = key;
    }
}

TARGET static void
SORT_KEYS(KEY *keys, int64_t n)
{
    int64_t rising = 1;
    while (rising < n && keys[rising - 1] <= keys[rising])
        rising++;
    if (rising >= n)
        return;
    if (n <= FEW) {
        SORT_FEW(keys, n);
        return;
    }
    KEY differ = 0;
    for (int64_t at = 1; at < n; at++)
        differ |= keys[at] ^ keys[0];
    if (!differ)
        return;
    const int n_bits = bit_length(differ), n_digits = digit_bits(n) < n_bits ? digit_bits(n) : n_bits;
    const int shift = n_bits - n_digits, n_groups = 1 << n_digits;
    int64_t places[MOST_GROUPS] = {0}, ends[MOST_GROUPS];
    for (int64_t at = 0; at < n; at++)
        places[keys[at] >> shift & (KEY)(n_groups - 1)]++;
    int64_t end = 0;
    for (int group = 0; group < n_groups; group++) {
        const int64_t first = end;
        end += places[group];
        places[group] = first;
        ends[group] = end;
    }
    /* Each key goes to the next place of its group, and the key that was there goes on. */
    for (int group = 0; group < n_groups; group++)
        while (places[group] < ends[group]) {
            KEY key = keys[places[group]];
            int at = (int)(key >> shift & (KEY)(n_groups - 1));
            while (at != group) {
                const KEY moved = keys[places[at]];
                keys[places[at]++] = key;
                key = moved;
                at = (int)(key >> shift & (KEY)(n_groups - 1));
            }
            keys[places[group]++] = key;
        }
    for (int group = 0; shift && group < n_groups; group++) {
        const int64_t first = group ? ends[group - 1] : 0;
        SORT_KEYS(keys + first, ends[group] - first);
    }
}

#undef KEY
#undef SORT_FEW
#undef SORT_KEYS
#undef TARGET
