"""Slow, obvious references: brute force, float64, Python dicts. Too slow to use, too plain to be wrong."""

from itertools import permutations
from types import SimpleNamespace

import numpy as np


def children_oracle(codes, prefix):
    """Scan the whole catalogue for the codes that follow a prefix."""
    depth = len(prefix)
    return {int(sid[depth]) for sid in codes if depth < len(sid) and tuple(sid[:depth]) == tuple(prefix)}


def nodes_oracle(codes, depth):
    """Number the prefixes of one length in lexicographic order."""
    return {prefix: node for node, prefix in enumerate(sorted({tuple(int(c) for c in sid[:depth]) for sid in codes}))}


def mask_oracle(codes, prefixes, scores, tokens):
    """Copy only the scores that lead to an item."""
    out = np.full_like(scores, -np.inf)
    for row, prefix in enumerate(prefixes):
        for code in children_oracle(codes, tuple(prefix)):
            out[row, tokens[code]] = scores[row, tokens[code]]
    return out


def select_oracle(codes, prefixes, log_probs, start, k, exclude=()):
    """Score every continuation of one request's beams; best first, ties to the lower beam, then the lower code.

    `prefixes` is a list with one tuple per beam, None for a dead one. Returns (score, beam, code, prefix) tuples.
    """
    rows = sorted({tuple(int(c) for c in sid) for sid in codes})
    alive = [sid for rank, sid in enumerate(rows) if rank not in set(exclude)]
    found = []
    for beam, prefix in enumerate(prefixes):
        if prefix is None:
            continue
        for code in sorted(children_oracle(alive, prefix)):
            score = np.float32(start[beam]) + np.float32(log_probs[beam, code])
            found.append((score, beam, code, (*prefix, code)))
    return sorted(found, key=lambda entry: -entry[0])[:k]


class SumQuantizer:
    """Chooses codes by looking at every ID there is; the sum of the chosen centroids stands for the embedding."""

    def __init__(self, codebooks):
        self.codebooks = tuple(np.asarray(codebook, dtype=np.float32) for codebook in codebooks)
        self.codebook_sizes = tuple(len(codebook) for codebook in self.codebooks)
        self.ids = np.stack(np.meshgrid(*map(np.arange, self.codebook_sizes), indexing="ij"), -1)
        self.ids = self.ids.reshape(-1, len(codebooks)).astype(np.uint16)

    def decode(self, codes):
        return sum(codebook[codes[:, level]] for level, codebook in enumerate(self.codebooks))

    def candidates(self, X, *, count, beam):
        cost = ((X[:, None, :].astype(np.float64) - self.decode(self.ids)[None]) ** 2).sum(axis=2).astype(np.float32)
        best = np.argsort(cost, axis=1, kind="stable")[:, :count]
        absent = max(0, count - len(self.ids))
        codes = np.pad(self.ids[best], ((0, 0), (0, absent), (0, 0)))
        cost = np.pad(np.take_along_axis(cost, best, axis=1), ((0, 0), (0, absent)), constant_values=np.inf)
        return codes, cost

    def encode(self, X):
        return self.candidates(X, count=1, beam=1)[0][:, 0]


class SharedSpecificQuantizer:
    """Two stages of `SumQuantizer`: shared levels on the joined views, specific levels on what is left of each."""

    def __init__(self, views, shared, specific):
        self.views = tuple(views)
        self.shared_quantizer = SumQuantizer(shared) if shared else None
        self.specific_quantizers = {view: SumQuantizer(specific[view]) if specific else None for view in views}
        self.n_shared = len(shared)
        one = self.specific_quantizers[self.views[0]]
        self.codebook_sizes = (*map(len, shared), *(one.codebook_sizes if one else ()))

    def standardize(self, views):
        return {view: np.asarray(views[view], dtype=np.float32) for view in self.views}

    def encode(self, views):
        X = self.standardize(views)
        joined = np.concatenate([X[view] for view in self.views], axis=1)
        shared = np.empty((len(joined), 0), dtype=np.uint16)
        if self.shared_quantizer is not None:
            shared = self.shared_quantizer.encode(joined)
            joined = joined - self.shared_quantizer.decode(shared)
        parts = np.split(joined, np.cumsum([X[view].shape[1] for view in self.views])[:-1], axis=1)
        codes = {}
        for view, part in zip(self.views, parts, strict=True):
            specific = self.specific_quantizers[view]
            codes[view] = shared if specific is None else np.concatenate([shared, specific.encode(part)], axis=1)
        return codes


def least_assignment_oracle(cost, room):
    """Return the least total cost of one column per item; ``cost[i, j]`` is inf where item i may not take column j.

    Columns with room for several are written out several times, then scipy solves the square problem. None if it is
    impossible.
    """
    from scipy.optimize import linear_sum_assignment

    places = np.repeat(cost, room, axis=1)
    try:
        rows, columns = linear_sum_assignment(places)
    except ValueError:
        return None
    return None if len(rows) < len(cost) else float(places[rows, columns].sum())


def squared_distance(a, b):
    """Sum the squared differences in float64, one after the other."""
    return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))


def entropy_oracle(column):
    """Entropy in bits of the codes of one level, by counting in a dict."""
    counts = {}
    for code in column:
        counts[int(code)] = counts.get(int(code), 0) + 1
    return -sum(count / len(column) * np.log2(count / len(column)) for count in counts.values())


def gini_oracle(counts):
    """Half of the mean difference of all pairs, over the mean."""
    mean = sum(counts) / len(counts)
    return sum(abs(a - b) for a in counts for b in counts) / (2 * len(counts) ** 2 * mean)


def prefix_purity_oracle(codes, labels, depth):
    """Share of items with the most frequent label among the items that begin with the same `depth` codes."""
    below = {}
    for row, label in zip(codes, labels, strict=True):
        below.setdefault(tuple(int(code) for code in row[:depth]), []).append(label)
    return sum(max(map(members.count, members)) for members in below.values()) / len(codes)


def distortion_oracle(X, decoded):
    """Mean squared distance of two lists of vectors."""
    return sum(squared_distance(x, y) for x, y in zip(X, decoded, strict=True)) / len(X)


def neighbor_recall_oracle(X, decoded, queries, k, orders=None):
    """Average over the orders of the items (default: all of them) of the share of decoded neighbours that are near.

    A stable sort of each order breaks the ties; near is who is not farther than the k-th nearest embedding.
    """
    orders = list(permutations(range(len(X)))) if orders is None else orders
    shares = []
    for query in queries:
        to_item = [squared_distance(X[query], x) for x in X]
        to_decoded = [squared_distance(decoded[query], y) for y in decoded]
        limit = sorted(to_item[:query] + to_item[query + 1 :])[k - 1]
        for order in orders:
            nearest = sorted((item for item in order if item != query), key=to_decoded.__getitem__)[:k]
            shares.append(sum(to_item[item] <= limit for item in nearest) / k)
    return sum(shares) / len(shares)


def item_cf_oracle(user_items, history, n_items):
    """Score items by ``sum_age 0.8^age cos(U_i, U_j)`` over the last 20 events, with Python sets."""
    users = [{user for user, items in enumerate(user_items) if item in items} for item in range(n_items)]
    scores = [0.0] * n_items
    for age, past in enumerate(list(history)[::-1][:20]):
        for item in range(n_items):
            if item != past and users[item] and users[past]:
                overlap = len(users[item] & users[past])
                scores[item] += 0.8**age * overlap / (len(users[item]) * len(users[past])) ** 0.5
    return scores


def bm25_oracle(documents, query, k1, b):
    """Score documents (lists of words) by the BM25 formula with Lucene's idf, without the constant factor k1 + 1."""
    mean_length = sum(len(words) for words in documents) / len(documents)
    scores = []
    for words in documents:
        score = 0.0
        for term in query:
            n_with = sum(term in other for other in documents)
            if n_with:
                idf = np.log(1 + (len(documents) - n_with + 0.5) / (n_with + 0.5))
                norm = k1 * (1 - b + b * len(words) / mean_length)
                score += idf * words.count(term) / (words.count(term) + norm)
        scores.append(score)
    return scores


def ppmi_oracle(sequences, n_items, window):
    """Count pairs of events at distance d <= window with weight 1 / d; then max(0, log n_ij n / (n_i n_j))."""
    counts = np.zeros((n_items, n_items))
    for items in sequences:
        for i, left in enumerate(items):
            for j, right in enumerate(items):
                if i != j and left != right and abs(i - j) <= window:
                    counts[left, right] += 1 / abs(i - j)
    ppmi = np.zeros_like(counts)
    for i, j in np.argwhere(counts > 0):
        ppmi[i, j] = max(0.0, np.log(counts[i, j] * counts.sum() / (counts[i].sum() * counts[j].sum())))
    return ppmi


def catalog_oracle(item_ids, codes):
    """Dicts from item id to codes and to the rank among the sorted rows."""
    order = sorted(tuple(row) for row in codes)
    by_id = dict(zip(item_ids, (tuple(row) for row in codes), strict=True))
    return SimpleNamespace(codes=by_id, ranks={item_id: order.index(row) for item_id, row in by_id.items()})


def residual_encode_oracle(X, codebooks):
    """Take the nearest centroid of what is left, level by level, in float64."""
    rest = np.array(X, np.float64)
    codes = np.empty((len(rest), len(codebooks)), np.int64)
    for level, codebook in enumerate(np.asarray(book, np.float64) for book in codebooks):
        for row in range(len(rest)):
            codes[row, level] = ((rest[row] - codebook) ** 2).sum(axis=1).argmin()
        rest -= codebook[codes[:, level]]
    return codes


def all_codes_oracle(X, codebooks):
    """Return all rows of codes, in lexicographic order, and each item's squared distance to all of them."""
    rows = np.array(list(np.ndindex(*(len(book) for book in codebooks))))
    decoded = sum(np.asarray(book, np.float64)[rows[:, level]] for level, book in enumerate(codebooks))
    return rows, ((np.asarray(X, np.float64)[:, None] - decoded[None]) ** 2).sum(axis=2)


def cluster_means_oracle(x, labels, n_clusters):
    """Average the rows of each cluster in float64; zeros where it is empty."""
    members = [np.asarray(x, np.float64)[np.asarray(labels) == cluster] for cluster in range(n_clusters)]
    return np.array([rows.mean(axis=0) if len(rows) else np.zeros(x.shape[1]) for rows in members])


def allowed_tokens_oracle(token_rows, generated, eos):
    """Tokens that may follow what was generated: by scanning the items; the end token when nothing may."""
    depth = len(generated)
    allowed = {row[depth] for row in token_rows if depth < len(row) and row[:depth] == list(generated)}
    return sorted(allowed) or [eos]


def item_scores_oracle(model, inputs, token_rows, *, double=True):
    """Summed log-probabilities of whole IDs, one full forward pass in float64 per prompt; no cache and no beams.

    Without `double`, in the dtype of the model, for those that work in float32 alone.

    Returns an array of shape (batch, n_items).
    """
    import copy

    import torch

    model = copy.deepcopy(model).double() if double else model
    tokens = torch.tensor(token_rows)
    n_items, n_levels = tokens.shape
    scores = []
    for prompt, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
        prompt = prompt[mask.bool()].expand(n_items, -1)
        with torch.no_grad():
            if model.config.is_encoder_decoder:
                start = torch.full((n_items, 1), model.config.decoder_start_token_id)
                answers = torch.cat([start, tokens[:, :-1]], dim=1)
                logits = model(input_ids=prompt, decoder_input_ids=answers, use_cache=False).logits
            else:
                whole = torch.cat([prompt, tokens[:, :-1]], dim=1)
                logits = model(input_ids=whole, use_cache=False).logits[:, -n_levels:]
        scores.append(logits.log_softmax(-1).gather(2, tokens[..., None])[..., 0].sum(1).numpy())
    return np.stack(scores)


class StopGradient:
    """Remembers values in the first run and repeats them in later ones: differences see constants.

    So central differences of a loss that is written with it are what a gradient that stops there must be.
    """

    def __init__(self):
        self.values, self.position, self.replaying = [], 0, False

    def __call__(self, value):
        if not self.replaying:
            self.values.append(np.copy(value))
            return value
        self.position += 1
        return self.values[self.position - 1]

    def replay(self):
        self.replaying, self.position = True, 0


def perceptron_oracle(x, layers):
    """Multiply by weights of shape (out, in), add the bias, cut at 0 between layers."""
    for depth, (weight, bias) in enumerate(layers):
        x = np.array([[row @ column for column in weight] for row in x]) + bias
        x = np.maximum(x, 0) if depth < len(layers) - 1 else x
    return x


def shared_specific_loss_oracle(params, views, beta, stop, *, all_levels=False, choose=None):
    """Return GenSAR's loss in float64 as its quantizers are published, with the codes in the order of the recursion.

    Each quantizer puts out ``x + sg(e - x)`` and hands on x less that output; `all_levels` subtracts ``sg(e)`` instead.
    `params` has "encoders", "decoders" (per view), "shared" and "specific" (per view a list of codebooks); `choose`
    replaces the nearest code by another rule where it is given: it takes the codebook's name, residual and codebook.
    """
    latents = [perceptron_oracle(x, layers) for x, layers in zip(views, params["encoders"], strict=True)]
    dims = [latent.shape[1] for latent in latents]
    codes, losses = [], []

    def run(x, books, name):
        out = np.zeros_like(x)
        for level, book in enumerate(books):
            picked = [int(((row - book) ** 2).sum(axis=1).argmin()) for row in x]
            if choose is not None:
                picked = choose((*name, level), x, book, picked)
            picked = stop(np.array(picked))
            e = book[picked]
            codes.append(picked)
            losses.append(((stop(x) - e) ** 2).mean() + beta * ((x - stop(e)) ** 2).mean())
            level_out = x + stop(e - x)
            out = out + level_out
            x = x - stop(e) if all_levels else x - level_out
        return out, x

    joined = np.concatenate(latents, axis=1)
    q, rest = run(joined, params["shared"], ("shared",))
    reconstruction, first = 0.0, 0
    for view, (x, dim) in enumerate(zip(views, dims, strict=True)):
        columns = slice(first, first + dim)
        out, _ = run(rest[:, columns], params["specific"][view], ("specific", view))
        h = q[:, columns] + out
        if all_levels:  # the sum of the outputs would hand the gradient on once per level
            h = latents[view] + stop(h - latents[view])
        y = perceptron_oracle(h, params["decoders"][view])
        reconstruction += ((x - y) ** 2).mean()
        first += dim
    return reconstruction + sum(losses) / len(losses), codes


def sinkhorn_oracle(distance, epsilon, iterations):
    """Balance codes as GenSAR's authors do: scaled distances, float64, rows then columns to equal sums, row maximum."""
    middle = (distance.max() + distance.min()) / 2
    scaled = (distance - middle) / (distance.max() - middle + 1e-5)
    plan = np.exp(-scaled.astype(np.float64) / epsilon)
    plan /= plan.sum()
    n_rows, n_codes = plan.shape
    for _ in range(iterations):
        plan /= plan.sum(axis=1, keepdims=True) * n_rows
        plan /= plan.sum(axis=0, keepdims=True) * n_codes
    return plan.argmax(axis=1)


def slopes_oracle(loss, params, step=1e-6):
    """Differentiate a loss without arguments by each entry of each array, by central differences."""
    slopes = []
    for array in params:
        slope = np.zeros_like(array)
        for index in np.ndindex(*array.shape):
            value, sides = array[index], []
            for side in (value + step, value - step):
                array[index] = side
                sides.append(loss())
            array[index] = value
            slope[index] = (sides[0] - sides[1]) / (2 * step)
        slopes.append(slope)
    return slopes


def rqvae_loss_oracle(params, x, beta, stop, *, update="loss"):
    """Return the loss of one view in float64, its codes and its reconstruction error, straight-through.

    `params` has "encoder", "decoder" (weight and bias per layer) and "codebooks". Level l commits ``r_l``, from which
    only constants were subtracted; codebooks that are moving averages have no term of their own.
    """
    z = perceptron_oracle(x, params["encoder"])
    rest, total, quantization, codes = z, np.zeros_like(z), 0.0, []
    for book in params["codebooks"]:
        picked = stop(np.array([int(((row - book) ** 2).sum(axis=1).argmin()) for row in rest]))
        chosen = book[picked]
        quantization += beta * ((rest - stop(chosen)) ** 2).mean()
        if update == "loss":
            quantization += ((stop(rest) - chosen) ** 2).mean()
        rest, total = rest - stop(chosen), total + stop(chosen)
        codes.append(picked)
    reconstruction = ((x - perceptron_oracle(z + stop(total - z), params["decoder"])) ** 2).mean()
    return reconstruction + quantization, codes, reconstruction


def rotation_gradient_oracle(x, q, gradient):
    """Hand a gradient back from `q` to `x`: stretch, and turn in the plane of both by the angle from `q` to `x`."""
    out = []
    for one, other, g in zip(x, q, gradient, strict=True):
        stretch = np.linalg.norm(other) / np.linalg.norm(one)
        a, b = one / np.linalg.norm(one), other / np.linalg.norm(other)
        across = b - (a @ b) * a
        across /= np.linalg.norm(across)
        cos, sin = a @ b, np.sqrt(1 - (a @ b) ** 2)
        plane = np.stack([a, across])
        turn = np.eye(len(a)) + plane.T @ (np.array([[cos, -sin], [sin, cos]]) - np.eye(2)) @ plane
        out.append(stretch * turn.T @ g)
    return np.array(out)


def moving_average_oracle(codebook, sizes, sums, x, codes, decay):
    """Average old and new sizes and sums of the rows of each code; returns codebook, sizes and sums."""
    new_sizes, new_sums, book = np.array(sizes), np.array(sums), np.array(codebook)
    for code in range(len(book)):
        rows = x[np.asarray(codes) == code]
        new_sizes[code] = decay * sizes[code] + (1 - decay) * len(rows)
        new_sums[code] = decay * sums[code] + (1 - decay) * rows.sum(axis=0)
        book[code] = new_sums[code] / new_sizes[code]
    return book, new_sizes, new_sums


def alive_children_oracle(codes, alive, prefix):
    """Scan the items that may be reached, given as a set of ranks, for the codes that follow a prefix."""
    rows = sorted({tuple(int(c) for c in sid) for sid in codes})
    return children_oracle([sid for rank, sid in enumerate(rows) if rank in alive], prefix)


def prefix_range_oracle(codes, prefix):
    """First rank below a prefix and the one behind the last, by scanning the sorted rows; (0, 0) when there is none."""
    rows = sorted({tuple(int(c) for c in sid) for sid in codes})
    ranks = [rank for rank, sid in enumerate(rows) if sid[: len(prefix)] == tuple(prefix)]
    return (min(ranks), max(ranks) + 1) if ranks else (0, 0)


def written_probabilities_oracle(model, inputs, token_rows, *, temperature=1.0):
    """Probability with which a model that may write nothing but items writes each, shape (batch, n_items).

    At each level the softmax over the tokens with which an item goes on; whole texts in float64.
    """
    import copy

    import torch

    model = copy.deepcopy(model).double()
    rows = [tuple(row) for row in token_rows]
    found = []
    for prompt, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
        text = prompt[mask.bool()].tolist()
        shares = {}
        for prefix in {row[:depth] for row in rows for depth in range(len(row))}:
            with torch.no_grad():
                if model.config.is_encoder_decoder:
                    start = torch.tensor([[model.config.decoder_start_token_id, *prefix]])
                    logits = model(input_ids=torch.tensor([text]), decoder_input_ids=start, use_cache=False).logits[
                        0, -1
                    ]
                else:
                    logits = model(input_ids=torch.tensor([[*text, *prefix]]), use_cache=False).logits[0, -1]
            follow = sorted({row[len(prefix)] for row in rows if row[: len(prefix)] == prefix})
            weights = np.exp(logits[follow].numpy() / temperature - (logits[follow] / temperature).max().item())
            shares |= {(*prefix, token): share for token, share in zip(follow, weights / weights.sum(), strict=True)}
        found.append([np.prod([shares[row[: depth + 1]] for depth in range(len(row))]) for row in rows])
    return np.array(found)


def draw_probabilities_oracle(probabilities, n_draws):
    """Probability of each ordered sample without replacement: one after the other, in proportion to what is left."""
    found = {}
    for order in permutations(range(len(probabilities)), n_draws):
        share, left = 1.0, 1.0
        for item in order:
            share *= probabilities[item] / left
            left -= probabilities[item]
        found[order] = share
    return found


def log_probability(model, tokens, sid):
    """Sum of the log-probabilities of an ID after a prompt: one forward pass, nothing shared."""
    import torch

    with torch.inference_mode():
        if model.config.is_encoder_decoder:
            start = [model.config.decoder_start_token_id, *sid[:-1]]
            logits = model(input_ids=torch.tensor([tokens]), decoder_input_ids=torch.tensor([start])).logits[0]
        else:
            logits = model(input_ids=torch.tensor([tokens + sid])).logits[0, len(tokens) - 1 : -1]
        return float(torch.log_softmax(logits.double(), -1)[torch.arange(len(sid)), sid].sum())
