"""The dense CRF once more, slow and plain: the lattice as sparse matrices, and the exact kernels for tiny images."""

import numpy as np
import scipy.sparse
import scipy.special


def lattice_kernel(points):
    """Return the function that filters (N, C) with the permutohedral lattice of points (N, d)."""
    points = np.asarray(points, np.float32)
    count, d = points.shape
    filled = np.concatenate([points, np.zeros((int(count % 4 > 0), d), np.float32)])
    vertices, shares, keys = simplices(filled)
    pixels = np.repeat(np.arange(count), d + 1)
    splat = scipy.sparse.csr_array((shares[:count].ravel(), (vertices[:count].ravel(), pixels)), (len(keys), count))
    numbers = {key.tobytes(): number for number, key in enumerate(keys)}
    blurs = [blur_matrix(keys, numbers, axis) for axis in range(d + 1)]

    def kernel(values):
        values = splat @ values
        for blur in blurs:
            values = blur @ values
        return splat.T @ values / (1 + 2.0**-d)

    return kernel


def simplices(points):
    """Return vertices and shares (N, d + 1), and the vertices' keys (M, d + 1): section 3 of Adams et al. 2010."""
    count, d = points.shape
    spread = np.float32(np.sqrt(2 / 3) * (d + 1))
    elevated = np.empty((count, d + 1), np.float32)
    total = np.zeros(count, np.float32)
    for j in range(d, 0, -1):
        scaled = points[:, j - 1] * np.float32(float(spread) / np.sqrt(j * (j + 1)))
        elevated[:, j] = total - np.float32(j) * scaled
        total = total + scaled
    elevated[:, 0] = total
    nearest = np.rint(elevated * (np.float32(1) / np.float32(d + 1))).astype(int)
    rest = elevated - (nearest * (d + 1)).astype(np.float32)
    ranks = np.argsort(np.argsort(-rest, axis=1, kind="stable"), axis=1) + nearest.sum(1, keepdims=True)
    shift = (ranks < 0).astype(int) - (ranks > d)
    ranks, nearest = ranks + shift * (d + 1), nearest + shift
    rest = (elevated - (nearest * (d + 1)).astype(np.float32)) * (np.float32(1) / np.float32(d + 1))
    falling = np.take_along_axis(rest, np.argsort(ranks, axis=1), axis=1)  # by rank: the largest first
    shares = np.empty((count, d + 1), np.float32)
    shares[:, 0] = 1 - (falling[:, 0] - falling[:, d])
    shares[:, 1:] = (falling[:, :-1] - falling[:, 1:])[:, ::-1]
    remainder = np.arange(d + 1)[None, :, None]
    below = ranks[:, None, :] <= d - remainder
    keys = (nearest * (d + 1))[:, None, :] + np.where(below, remainder, remainder - (d + 1))
    unique, numbers = np.unique(keys.reshape(-1, d + 1), axis=0, return_inverse=True)
    return numbers.reshape(count, d + 1), shares, unique


def blur_matrix(keys, numbers, axis):
    """Return (M, M) with 1 on the diagonal and 1/2 for both neighbours along an axis, where they are vertices."""
    step = np.ones(keys.shape[1], keys.dtype)
    step[axis] = 1 - keys.shape[1]
    pairs = [(i, numbers.get((key + step).tobytes())) for i, key in enumerate(keys)]
    rows, columns = np.array([pair for pair in pairs if pair[1] is not None], int).reshape(-1, 2).T
    one_way = scipy.sparse.csr_array((np.full(len(rows), 0.5), (rows, columns)), (len(keys),) * 2)
    return scipy.sparse.csr_array(scipy.sparse.eye_array(len(keys)) + one_way + one_way.T)


def exact_kernel(points):
    """Return the function that filters (N, C) with the Gaussian itself, in N x N."""
    points = np.asarray(points, float)
    weights = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1) / 2)
    return lambda values: weights @ values


def marginals(image, energy, params, make_kernel=lattice_kernel):
    """Return the marginals (H, W, C) of the mean field: arXiv 1606.00915, section 3.3."""
    height, width, labels = energy.shape
    y, x = np.mgrid[:height, :width].reshape(2, -1).astype(np.float32)
    xy = np.stack([x, y], 1)
    rgb = image.reshape(-1, 3).astype(np.float32)
    near = make_kernel(xy / np.float32(params.pos_xy_std))
    alike = make_kernel(np.hstack([xy / np.float32(params.bi_xy_std), rgb / np.float32(params.bi_rgb_std)]))
    kernels = [(params.pos_w, near), (params.bi_w, alike)]
    masses = [kernel(np.ones((len(x), 1))) + 1e-20 for _, kernel in kernels]
    energy = energy.reshape(-1, labels).astype(float)
    q = scipy.special.softmax(-energy, 1)
    for _ in range(params.iterations):
        message = 0
        for (weight, kernel), mass in zip(kernels, masses, strict=True):
            if params.normalization == "symmetric":
                message = message + weight * kernel(q / np.sqrt(mass)) / np.sqrt(mass)
            else:
                message = message + weight * kernel(q) / mass
        q = scipy.special.softmax(message - energy, 1)
    return q.reshape(height, width, labels)
