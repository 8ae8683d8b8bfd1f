"""Readable made-up item texts whose words tell the topic."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from fedpeft.data.dataset import Catalogue, Ints

_TOPICS = {
    "garden": "seed soil rose hedge trowel compost greenhouse orchard",
    "kitchen": "skillet ladle oven spice dough whisk kettle pantry",
    "music": "guitar melody drum chorus violin tempo harmony piano",
    "sailing": "anchor mast harbour rudder tide compass regatta deck",
    "mountain": "summit ridge glacier rope trail cabin boulder valley",
    "space": "orbit comet rocket planet telescope lunar nebula gravity",
    "winter": "sled frost mitten skating icicle snowfall blizzard fireplace",
    "painting": "canvas easel pigment brush portrait fresco palette varnish",
    "mystery": "detective alibi clue vault suspect riddle witness cipher",
    "romance": "wedding letter kiss bouquet promise waltz heart reunion",
    "history": "empire castle archive dynasty treaty relic museum chronicle",
    "sport": "league sprint goal stadium racket referee medal training",
    "animals": "fox otter falcon hedgehog pony whale burrow feather",
    "workshop": "lathe chisel bolt solder wrench plywood clamp drill",
    "electronics": "circuit sensor battery antenna resistor cable display amplifier",
    "travel": "passport hostel railway bazaar luggage island border caravan",
}
_ADJECTIVES = (  # noqa: SIM905  # word lists read better as text
    "quiet bright hidden golden little broken distant gentle modern ancient crimson silver wild "
    "honest curious northern velvet hollow early endless"
).split()
_BRANDS = (  # noqa: SIM905
    "Alderbrook Bramwell Corvane Dunmore Elsinger Fernhill Galloway Hartwick Iverly Jasperton "
    "Kestrel Larkmoor Merrow Norvane Oakhurst Pellinor Quillon Rosmere Stanwick Thornby"
).split()
_KEYWORDS = 4  # topic words in each description


def names_and_words(topics: int) -> list[tuple[str, list[str]]]:
    """Return the name and the words of each topic; beyond the built-in ones, pairs of them."""
    base = [(name, words.split()) for name, words in _TOPICS.items()]
    pairs = [
        (f"{a} and {b}", words_a[::2] + words_b[1::2])
        for (a, words_a), (b, words_b) in combinations(base, 2)
    ]
    return (base + pairs)[:topics]


def write_catalogue(topic: Ints, brand: Ints, rng: np.random.Generator) -> Catalogue:
    """Make ids, titles and texts.

    Parameters
    ----------
    topic, brand
        int64 of shape (n,): each item's topic and brand numbers.
    """
    named = names_and_words(int(topic.max()) + 1)
    n = len(topic)
    adjective = rng.integers(0, len(_ADJECTIVES), n).tolist()
    picks = rng.integers(0, len(named[0][1]), (n, _KEYWORDS)).tolist()
    titles, texts = [], []
    for t, b, a, chosen in zip(topic.tolist(), brand.tolist(), adjective, picks, strict=True):
        name, words = named[t]
        first, second, third, fourth = (words[place] for place in chosen)
        title = f"The {_ADJECTIVES[a]} {first}"
        titles.append(title)
        texts.append(
            f"{title}. {name}. {_BRANDS[b % len(_BRANDS)]}. "
            f"This {_ADJECTIVES[(a + b) % len(_ADJECTIVES)]} piece about {second} and {third}, "
            f"for friends of {fourth}"
        )
    return Catalogue([f"item-{i}" for i in range(n)], titles, texts)
