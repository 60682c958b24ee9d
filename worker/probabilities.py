"""How likely the tokens of a reply were, and what else might have come. Computed only when asked for. ENGINE.md, 8."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from worker.protocol import Alternative, Generate, Probability
from worker.sampling import Sampler
from worker.vocabulary import Vocabulary


class Probabilities:
    """What a request wants to know of each token: the `count` best beside itself.

    After sampling they are probabilities in what the chain left over, otherwise logarithms of those in the raw logits.
    """

    def __init__(self, request: Generate, vocabulary: Vocabulary) -> None:
        self._count, self._after = request.n_probs, request.post_sampling_probs
        self._vocabulary = vocabulary

    def of(self, row: npt.NDArray[np.float32], token: int, sampler: Sampler) -> Probability:
        """For the token that the sampler has just drawn from this row of logits."""
        if self._after:
            ids, values = sampler.distribution()
            own = float(values[ids == token].sum())
            places = _best(values, self._count)
            top = [(int(ids[place]), float(values[place])) for place in places if values[place] > 0]
        else:
            values = log_softmax(row)
            own = float(values[token])
            top = [(int(place), float(values[place])) for place in _best(values, self._count)]
        spelled = self._vocabulary.spelled
        return Probability(token, spelled(token), own, [Alternative(id, spelled(id), value) for id, value in top])


def log_softmax(row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The logarithms of the probabilities, shape (n_vocab,)."""
    shifted = row - row.max()
    found: npt.NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(dtype=np.float64)).astype(np.float32)
    return found


def _best(values: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.intp]:
    """The places of the largest values, best first."""
    if count < len(values):
        places = np.argpartition(values, -count)[-count:] if count else np.zeros(0, np.intp)
    else:
        places = np.arange(len(values))
    order: npt.NDArray[np.intp] = places[np.argsort(-values[places], kind="stable")]
    return order
