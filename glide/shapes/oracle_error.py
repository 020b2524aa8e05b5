"""Measure the oracle's error on true renderings of held-out scenes.

    python -m glide.shapes.oracle_error --scenes 1000

It counts true captions that are judged wrong, and changed facts that are not judged wrong, on pictures as rendered and
with noise, soft edges or a tint. Measured on 1000 held-out scenes of all kinds (seed 0), in % of the captions:

    true captions judged wrong            64 x 64    256 x 256
    as rendered                              0.0           0.0
    noise, 8 levels                          0.0           0.0
    soft edges                               0.0           0.0
    noise and soft edges                     0.3           0.0
    tint of up to 20 levels                  0.0           0.0

No changed fact of any kind was missed in any of these rows.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from glide.shapes.dataset import held_out_scenes
from glide.shapes.oracle import Oracle, judge_reading, read_scene
from glide.shapes.render import render
from glide.shapes.scene import VALUES, Fact, Scene
from glide.utils.printable import say

Image = NDArray[np.uint8]
Corruption = Callable[[Image, np.random.Generator], Image]


def _levels(image: NDArray[np.floating]) -> Image:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def noisy(image: Image, rng: np.random.Generator) -> Image:
    """Gaussian noise with a standard deviation of 8 levels."""
    return _levels(image + rng.normal(0, 8, image.shape))


def soft_edges(image: Image, rng: np.random.Generator) -> Image:
    """Each pixel mixed with its neighbours along both axes: weights 0.2, 0.6, 0.2."""
    blurred = image.astype(np.float32)
    for axis in (0, 1):
        padded = np.pad(blurred, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        before, middle, after = (np.take(padded, np.arange(len(image)) + k, axis) for k in range(3))
        blurred = 0.2 * before + 0.6 * middle + 0.2 * after
    return _levels(blurred)


def tinted(image: Image, rng: np.random.Generator) -> Image:
    """Every colour shifted by up to 20 levels a channel, the same for the whole picture."""
    return _levels(image + rng.uniform(-20, 20, 3))


CORRUPTIONS: dict[str, Corruption] = {
    "as rendered": lambda image, rng: image,
    "noise": noisy,
    "soft edges": soft_edges,
    "noise and soft edges": lambda image, rng: noisy(soft_edges(image, rng), rng),
    "tint": tinted,
}


def changed_facts(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[Fact, tuple[Fact, ...]]]:
    """(changed fact, the caption's facts with it) for every fact of a scene whose change makes the caption wrong.

    Some changes leave a caption true: "a ring above a ring" is "a ring below a ring".
    """
    for index, fact in enumerate(scene.facts):
        others = [value for value in VALUES[fact.kind] if value != fact.value]
        changed = Fact(fact.kind, others[rng.integers(len(others))], fact.thing)
        facts = (*scene.facts[:index], changed, *scene.facts[index + 1 :])
        truth = judge_reading(read_scene(scene), facts)
        if (changed, False) in truth.verdicts:
            yield changed, facts


def error_rates(
    scenes: Sequence[Scene], size: int, corruption: str = "as rendered", seed: int = 0
) -> dict[str, float]:
    """{"true captions": share judged wrong, "<kind of fact>": share of changed facts not judged wrong}."""
    rng, oracle = np.random.default_rng(seed), Oracle()
    wrong, missed, tried = 0, dict[str, int](), dict[str, int]()
    for scene, image in zip(scenes, render(scenes, size), strict=True):
        reading = oracle.read(CORRUPTIONS[corruption](image, rng))
        wrong += not judge_reading(reading, scene.facts).all_right
        for changed, facts in changed_facts(scene, rng):
            tried[changed.kind] = tried.get(changed.kind, 0) + 1
            caught = (changed, False) in judge_reading(reading, facts).verdicts
            missed[changed.kind] = missed.get(changed.kind, 0) + (not caught)
    return {"true captions": wrong / len(scenes)} | {kind: missed[kind] / tried[kind] for kind in tried}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=1000, help="held-out scenes of all kinds")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256], help="resolutions")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    scenes = held_out_scenes(options.scenes, seed=options.seed)
    for size in options.sizes:
        for corruption in CORRUPTIONS:
            rates = error_rates(scenes, size, corruption, options.seed)
            missed = ", ".join(
                f"{kind} {100 * rate:.2f}" for kind, rate in rates.items() if kind != "true captions"
            )
            say(
                f"{size:4d} {corruption:21s} true captions judged wrong {100 * rates['true captions']:.2f}%",
            )
            say(f"     changed facts missed (%): {missed}")


if __name__ == "__main__":
    main()
