"""The training of a prior, from its flags to its folder."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glide.checkpoints.image_encoders import check_image_encoder, find_image_encoder, image_encoder_named
from glide.checkpoints.load import load_model
from glide.checkpoints.priors import load_prior, save_prior
from glide.data.datasets import Dataset, Split, is_generated, on_device, open_data
from glide.data.skipped_files import record_broken, report_broken
from glide.data.wrappers import Encoded
from glide.networks.config import TextConfig
from glide.networks.image_encoder import PretrainedImages
from glide.networks.prior import Prior
from glide.networks.prior_config import PRIORS, PriorConfig
from glide.networks.tokenizer import Tokenizer
from glide.training.distributed import Processes, start
from glide.training.fit import RunFlags, fit, jsonable, last_line
from glide.training.given_settings import ChosenConfig, check_decided, check_kept, read_settings
from glide.training.prior_objective import PriorObjective, embedding_statistics
from glide.training.run_folder import model_folder, run_folder
from glide.training.train_prior_flags import FROZEN_FLAGS, PRIOR_FLAGS, STATE_FLAGS, TrainPrior
from glide.training.validation import Validation
from glide.utils.config_check import checked
from glide.utils.errors import InputError
from glide.utils.printable import say
from glide.utils.program import command_line
from glide.utils.ranges import check_numbers

Draw = Callable[[Prior, Sequence[str], Sequence[int]], Tensor]
"""Draws embeddings [N,E] of captions by seeds (`toolkit.pipelines.prior.sample_embeddings`)."""
Evaluation = Callable[[TrainPrior, PretrainedImages, Dataset], Callable[[Prior], Mapping[str, Any]]]
"""Makes, from the flags, the image encoder and the held-out pictures (or, without any, those of the data), the function
that measures a prior in training for evaluation.jsonl."""
DEFAULT = "shapes"
MEASURED = 2048
"""Pictures over which mean and deviation of the embeddings are measured."""
AT_ONCE = 64
"""Pictures that are encoded at once where no gradient is needed."""


def train_prior(args: TrainPrior, draw: Draw | None = None, evaluation: Evaluation | None = None) -> Prior:
    """Build data and model, and `fit`; returns the trained prior. InputError for settings that do not fit.

    draw: for the cosine of drawn and true embeddings in validation.jsonl. evaluation: for --evaluate-every.
    """
    check_numbers(args)
    args.train.check()
    if args.show_config:
        say(_config_to_show(args).as_toml(), result=True)
        sys.exit(0)
    processes = start(args.device)
    flags = {"resume": args.resume, "overwrite": args.overwrite, "dry_run": args.train.dry_run}
    with run_folder(args.out, processes, **flags) as resume:
        trained = _train(args, draw, evaluation, processes, resume)
        processes.finish()
    return trained


def choose_config(args: TrainPrior) -> ChosenConfig:
    """The configuration of a new run before the data is known. InputError for settings that give no prior."""
    if args.init is not None:
        base, origin = load_prior(args.init).config, f"--init {args.init}"
    else:
        name = args.preset or DEFAULT
        if name not in PRIORS:
            raise InputError(f"got the preset {name!r}, expected one of {', '.join(PRIORS)}: choose one")
        base, origin = PRIORS[name], f"preset {name}"
    settings = read_settings(PRIOR_FLAGS, args.config, args.model, {})
    return ChosenConfig(PRIOR_FLAGS, PRIOR_FLAGS.apply(base, settings), origin, settings)


def _config_to_show(args: TrainPrior) -> ChosenConfig:
    if not args.resume:
        return choose_config(args)
    return ChosenConfig(PRIOR_FLAGS, load_prior(args.out).config, f"the run in {args.out}", {})


def _begin(args: TrainPrior, resume: Path | None) -> tuple[Prior, Dataset, PretrainedImages]:
    """The prior that a run begins with, its data and its image encoder. resume: the checkpoint to go on from."""
    if resume is not None:
        prior = load_prior(model_folder(resume, args.out))
        given = read_settings(PRIOR_FLAGS, args.config, args.model, {})
        check_kept(PRIOR_FLAGS, given, prior.config)
        encoder = find_image_encoder(prior.config.image_encoder)
        return prior, _open(args, prior.config, encoder, crop=args.crop, flip=args.flip), encoder
    chosen = choose_config(args)
    source = load_prior(args.init) if args.init is not None else None
    if source is not None:
        check_kept(PRIOR_FLAGS, chosen.settings, source.config, f"--init {args.init}", "or --init")
    config, encoder = _with_encoder(args, chosen.config, source)
    data = _open(args, config, encoder, crop=args.crop, flip=args.flip)
    if source is not None:
        return source, data, encoder
    trained = _trained_text(args.init_text) if args.init_text is not None else None
    if trained is not None:
        text, tokenizer, weights = trained
    else:
        tokenizer = Tokenizer.train(data.captions_for_tokenizer(), args.vocab_size, config.text.context)
        text = dataclasses.replace(config.text, vocab=tokenizer.n_vocab, context=tokenizer.context)
    size = args.train.batch_size
    parts = (on_device(data.batch(step, size), "cpu")["image"] for step in range(-(-MEASURED // size)))
    mean, std, unit = embedding_statistics(encoder, (some for part in parts for some in part.split(AT_ONCE)))
    config = dataclasses.replace(config, text=text, mean=mean, std=std, unit=unit)
    check_decided(PRIOR_FLAGS, chosen.settings, config)
    prior = Prior(checked(config, "prior"), tokenizer)
    if trained is not None:
        prior.text.load_state_dict(weights)
    return prior, data, encoder


def _trained_text(name: str) -> tuple[TextConfig, Tokenizer, dict[str, Tensor]]:
    """Configuration, tokenizer and weights of a diffusion model's text encoder. InputError where it trained none."""
    model = load_model(name)
    if model.config.text is None or model.text is None or model.tokenizer is None:
        raise InputError(
            f"got --init-text {name}, a model without a text encoder of its own, expected one that was trained on "
            "captions: give another, or leave it out"
        )
    return model.config.text, model.tokenizer, model.text.state_dict()


def _with_encoder(
    args: TrainPrior, config: PriorConfig, source: Prior | None
) -> tuple[PriorConfig, PretrainedImages]:
    """The configuration with the encoder of --image-encoder, or that of --init. InputError where they differ."""
    if args.image_encoder is None:
        if source is None:
            raise InputError(
                "got no --image-encoder, expected the one whose embeddings are learned: give one, such as "
                "noisy-clip:shapes-clip"
            )
        return config, find_image_encoder(config.image_encoder)
    found, encoder = image_encoder_named(args.image_encoder)
    if source is not None:
        check_image_encoder(config.image_encoder, encoder, args.image_encoder)
        return config, encoder
    return dataclasses.replace(config, image_encoder=found), encoder


def _train(
    args: TrainPrior,
    draw: Draw | None,
    evaluation: Evaluation | None,
    processes: Processes,
    resume: Path | None,
) -> Prior:
    """`train_prior` in the run's own folder. resume: the checkpoint to go on from."""
    args = dataclasses.replace(args, train=args.train.settled(processes, resume))
    torch.manual_seed(args.train.seed)
    prior, data, encoder = _begin(args, resume)
    prior.to(processes.device)
    assert prior.tokenizer is not None
    loss = dataclasses.replace(args.loss, prediction=prior.config.process.prediction)
    task = PriorObjective(encoder, loss, args.null_captions)
    validate = evaluate = None
    held_out: Split = "held_out" if args.held_out or is_generated(args.data) else "train"
    if args.validation_batches and processes.main and held_out == "held_out":
        unseen = _open(args, prior.config, encoder, split=held_out)
        validate = _validation(args, task, unseen, len(prior.process), draw)
    if evaluation is not None and processes.main and args.train.evaluate_every:
        evaluate = evaluation(args, encoder, _open(args, prior.config, encoder, split=held_out))
    encoded = Encoded(data, prior.tokenizer)
    trained = fit(
        prior,
        task,
        lambda step: processes.batches(encoded, step, args.train.batch_size, args.workers),
        args.practice.sampler(len(prior.process)),
        args.train,
        args.out,
        resume=resume,
        save=_saver(args),
        validate=validate,
        evaluate=evaluate,
        note=lambda: record_broken(args.out, data.broken),
        processes=processes,
        settings=RunFlags.of(args, FROZEN_FLAGS, STATE_FLAGS),
    )
    if processes.main and not args.train.dry_run:
        report_broken(args.out)
    return trained


def _open(args: TrainPrior, config: PriorConfig, encoder: PretrainedImages, **options: Any) -> Dataset:
    """Captioned pictures at the encoder's own size. InputError for classes, or too few pictures."""
    data = open_data(
        args.data,
        encoder.size,
        seed=args.train.seed,
        max_broken=args.max_broken,
        held_out=args.held_out,
        channels=len(encoder.mean),
        **options,
    )
    if data.class_names:
        raise InputError(
            f"got {args.data}, pictures with classes, for a prior, which reads captions, expected captioned "
            "pictures: give others"
        )
    if options.get("split", "train") == "train":
        data.check_batch(args.train.batch_size)
    return data


def _validation(
    args: TrainPrior, task: PriorObjective, unseen: Dataset, steps: int, draw: Draw | None
) -> Callable[[Prior], dict[str, Any]]:
    """The loss on held-out pictures, and the cosine of drawn embeddings to those of the pictures."""
    size = args.train.batch_size
    unseen.check_batch(size)
    measure = Validation(
        task, unseen, args.validation_batches, size, steps, args.train.seed, args.train.dtype
    )

    def validate(prior: Prior) -> dict[str, Any]:
        found = measure(prior)
        if draw is None:
            return found
        batch = on_device(measure.parts[0], prior.device, slice(0, AT_ONCE))
        z = task.encoder.encode(batch["image"])
        drawn = draw(prior, batch["caption"], range(len(z)))
        cosines = F.cosine_similarity(drawn, z, dim=1)
        unrelated = F.cosine_similarity(drawn, z.roll(1, dims=0), dim=1)
        return {**found, "cosine": cosines.mean().item(), "unrelated": unrelated.mean().item()}

    return validate


def _saver(args: TrainPrior) -> Callable[[Prior, Path, int], None]:
    """The function that writes the folder, with the record of its training."""
    record = {"command": command_line(), **jsonable(dataclasses.asdict(args))}

    def save(prior: Prior, out: Path, step: int) -> None:
        training = {**record, "step": step, "log": last_line(out / "log.jsonl")}
        save_prior(out, prior, training, getattr(torch, args.save_dtype), overwrite=True)

    return save
